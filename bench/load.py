"""HTTP load: requests that are signed beforehand, sent by wrk over keep-alive connections, the same for every server.

wrk is written in C and takes a small part of a core, where a client in Python would take more than the servers that it
measures. One thread of it sends the requests of a file in their order, each on the connection that is free next; a
server that closes its connections gets new ones. Raises Missing where there is no wrk.
"""

import hashlib
import hmac
import re
import shutil
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from measure import Missing
from readdress.gateway.sigv4 import (
    ALGORITHM,
    Authorization,
    canonical_request,
    signing_key,
    string_to_sign,
)
from readdress.gateway.wire import HttpRequest

REGION = "us-east-1"
# Each request stands in the file behind its length. What is sent twice, because the file was too short, is counted.
SCRIPT = """
local file = assert(io.open(os.getenv("REQUESTS"), "rb"))
local all = file:read("*a")
file:close()
local at, is_asked = 1, false
wrapped_times = 0
function request()
  if at > #all then at = 1; wrapped_times = wrapped_times + 1 end
  local length = tonumber(all:sub(at, at + 7))
  local found = all:sub(at + 8, at + 7 + length)
  if is_asked then at = at + 8 + length end
  is_asked = true -- wrk asks once only to see whether it is HTTP, and doesn't send that
  return found
end
local threads = {}
function setup(thread) threads[#threads + 1] = thread end
function done(summary, latency, requests)
  local e = summary.errors
  print(string.format("answered=%d refused=%d broken=%d micros=%d wrapped=%d p50=%d p99=%d",
    summary.requests, e.status, e.connect + e.read + e.write + e.timeout, summary.duration,
    threads[1]:get("wrapped_times"), latency:percentile(50), latency:percentile(99)))
end
"""


class Load(NamedTuple):
    """What a run did: answers in all, those that were no success, connections that broke, times the file was sent."""

    answered: int
    refused: int
    broken: int
    micros: int
    wrapped: int
    p50_us: int
    p99_us: int

    @property
    def per_second(self) -> float:
        return self.answered / self.micros * 1e6


def sign(
    method: str,
    path: str,
    host: str,
    body: bytes = b"",
    *,
    service: str = "connect",
    key: str = "test",
    secret: str = "test",
) -> bytes:
    """A signed request as bytes on the wire."""
    timestamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    headers = [(b"host", host.encode()), (b"x-amz-date", timestamp.encode())]
    target, _, query = path.partition("?")
    names = ("host", "x-amz-date")
    request = HttpRequest(method, target.encode(), query.encode(), headers, body)
    scope = Authorization(key, timestamp[:8], REGION, service, names, "")
    canonical = canonical_request(request, names, hashlib.sha256(body).hexdigest())
    text = string_to_sign(canonical, scope, timestamp)
    signature = hmac.digest(signing_key(secret, scope.date, REGION, service), text.encode(), "sha256").hex()
    authorization = (
        f"{ALGORITHM} Credential={key}/{scope.scope}, SignedHeaders={';'.join(names)}, Signature={signature}"
    )
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nX-Amz-Date: {timestamp}\r\nAuthorization: {authorization}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def run(host: str, requests: Sequence[bytes], *, connections: int, seconds: float, folder: Path) -> Load:
    """Raises AssertionError when an answer was no success, for such a figure would mean nothing."""
    program = shutil.which("wrk")
    if program is None:
        raise Missing("wrk, which sends the requests: `make bench-deps` installs it")
    script, file = folder / "requests.lua", folder / "requests"
    script.write_text(SCRIPT)
    file.write_bytes(b"".join(b"%08d%s" % (len(request), request) for request in requests))
    # wrk counts whole seconds only.
    done = subprocess.run(
        [program, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", str(script), f"http://{host}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + 60,
        env={"REQUESTS": str(file)},
    )
    found = re.search(r"answered=.*", done.stdout)
    assert found, done.stdout + done.stderr
    load = Load(*(int(value) for value in re.findall(r"=(-?\d+)", found[0])))
    assert load.answered, done.stdout
    assert not load.refused, f"{load.refused} of {load.answered} answers were no success: {requests[0][:80]!r}"
    return load
