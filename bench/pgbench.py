"""The alias transaction in pgbench: what a change comes to in five statements between BEGIN and COMMIT, prepared, in C.

It has no HTTP, no signature, no policy and no check, and stores the same rows: the rate that one could at best hope for
with a round trip for each statement, on the same server, with its fsync.
"""

import re
import subprocess
from functools import partial
from pathlib import Path

from harness.postgres import PostgresServer, as_servant
from measure import Figure, Measure, Missing, Scale, cpu_seconds

WHO = "pgbench"
SCRIPT = """
\\set n random(1, 1000000000)
BEGIN;
INSERT INTO idempotency_token (account, operation, token, fingerprint, answer, created_ms)
    VALUES ('bench', 'Associate', :client_id || '-' || :n || '-' || random(), 'f', '{}', 0) ON CONFLICT DO NOTHING;
SELECT id FROM email_address WHERE id IN ('p' || :client_id, 'a' || :client_id) ORDER BY address_key FOR UPDATE;
WITH gone AS (DELETE FROM alias WHERE alias_id = 'a' || :client_id RETURNING 1)
    INSERT INTO alias SELECT 'a' || :client_id, 'p' || :client_id, 0 WHERE NOT EXISTS (SELECT FROM gone)
    ON CONFLICT DO NOTHING;
INSERT INTO alias_history VALUES ('a' || :client_id, gen_random_uuid()::text, 'p' || :client_id, 0, 'ASSOCIATED');
INSERT INTO audit VALUES (gen_random_uuid()::text, 0, 'bench', 'key', 'Associate', '{}');
COMMIT;
"""
PAIRS = """
INSERT INTO instance VALUES ('bench', 'bench', NULL, 'SAML', NULL, 1, 1, 0);
INSERT INTO email_address SELECT side || n, 'bench', side || n, side || n || '@bench', 'bench', NULL, NULL, '', NULL,
    NULL, 0, 0 FROM generate_series(0, 99) AS n, unnest(ARRAY['a', 'p']) AS side
"""


def measures(server: PostgresServer, works: list[tuple[str, int]], scale: Scale, folder: Path) -> list[Measure]:
    """`works` are names with as many connections each. Raises Missing."""
    if not (server.binaries / "pgbench").exists():
        raise Missing("pgbench, which comes with PostgreSQL's server")
    database = server.create_database()
    server.execute(PAIRS, database)
    script = folder / "alias-change.sql"
    script.write_text(SCRIPT)
    script.chmod(0o644)
    return [partial(_measure, server, database, script, scale.seconds, *work) for work in works]


def _measure(
    server: PostgresServer, database: str, script: Path, seconds: float, work: str, connections: int
) -> list[Figure]:
    before = cpu_seconds(server.process.pid)
    done = subprocess.run(
        [str(server.binaries / "pgbench"), "-n", "-M", "prepared", "-f", str(script), "-c", str(connections), "-j", "1",
         "-T", str(max(1, round(seconds))), "-h", server.host, "-p", str(server.port), "-U", "postgres", database],
        capture_output=True, text=True, check=False, timeout=seconds + 60, **as_servant(),
    )  # fmt: skip
    rate = re.search(r"tps = ([0-9.]+)", done.stdout)
    count = re.search(r"processed: (\d+)", done.stdout)
    assert rate, done.stderr
    assert count, done.stdout
    cpu_us = (cpu_seconds(server.process.pid) - before) / int(count[1]) * 1e6
    return [Figure(work, WHO, float(rate[1]), "calls/s", cpu_us)]
