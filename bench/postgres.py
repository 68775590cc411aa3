"""The alias transaction by HTTP against the same transaction in pgbench, on one PostgreSQL, in interleaved rounds.

pgbench runs what one alias change comes to in five statements between BEGIN and COMMIT, in C and without HTTP,
signatures, policies or checks: the rate that one could at best hope for with a statement a round trip. The server keeps
what it says (fsync on), and all share the machine's cores.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from api import Readdress, measure
from harness.engine import POSTGRES, engine_in_use, provide_postgres, use
from harness.postgres import PostgresServer, as_servant
from report import Report

CLIENTS = (1, 4, 16, 32)
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
INSERT INTO instance VALUES ('bench', 'bench', NULL, 'SAML', NULL, 1, 1, 0) ON CONFLICT DO NOTHING;
INSERT INTO email_address SELECT side || n, 'bench', side || n, side || n || '@bench', 'bench', NULL, NULL, '', NULL,
    NULL, 0, 0 FROM generate_series(0, 99) AS n, unnest(ARRAY['a', 'p']) AS side ON CONFLICT DO NOTHING
"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=float, default=2)
    options.add_argument("--settings", default="", help="of the server, as in shared_buffers=1GB,wal_compression=on")
    given = options.parse_args()
    settings = dict(part.split("=", 1) for part in given.settings.split(",") if part)
    report = Report("Alias changes on PostgreSQL, durable", "changes/s")
    with tempfile.TemporaryDirectory() as folder, PostgresServer({"max_connections": "100", **settings}) as server:
        provide_postgres(server)
        use(POSTGRES)
        readdress = Readdress(Path(folder) / "data", max(CLIENTS))
        database = engine_in_use().url(Path(folder) / "data").rpartition("/")[2]
        server.execute(PAIRS, database)
        script = Path(folder) / "alias.sql"
        script.write_text(SCRIPT)
        Path(folder).chmod(0o755)
        pgbench = partial(run_pgbench, server, database, script, given.seconds)
        try:
            for _ in range(given.rounds):
                for clients in CLIENTS:
                    one_round(report, readdress, pgbench, clients, given.seconds)
        finally:
            readdress.service.stop()
    report.show(against="pgbench, 16 clients")
    print(server_line(server))


def one_round(
    report: Report, readdress: Readdress, pgbench: Callable[[int], float], clients: int, seconds: float
) -> None:
    feeds = [readdress.changes(number, int(seconds * 8_000 / clients) // 2 * 2) for number in range(clients)]
    line = f"Readdress, {clients} clients"
    measure(report, line, feeds, readdress.service.http_address, [readdress.service.process.pid], seconds)
    report.add(f"pgbench, {clients} clients", pgbench(clients))


def run_pgbench(server: PostgresServer, database: str, script: Path, seconds: float, clients: int) -> float:
    done = subprocess.run(
        [str(server.binaries / "pgbench"), "-n", "-M", "prepared", "-f", str(script), "-c", str(clients), "-j", "1",
         "-T", str(max(1, round(seconds))), "-h", server.host, "-p", str(server.port), "-U", "postgres", database],
        capture_output=True, text=True, check=False, **as_servant(),
    )  # fmt: skip
    found = re.search(r"tps = ([0-9.]+)", done.stdout)
    if not found:
        raise SystemExit(f"pgbench: {done.stderr}")
    return float(found[1])


def server_line(server: PostgresServer) -> str:
    return f"PostgreSQL of {server.binaries.parent.name}, fsync on"


if __name__ == "__main__":
    main()
