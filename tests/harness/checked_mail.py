"""The running program with checks of the sender, DNS of the test's own, and clients from anywhere by PROXY headers."""

import re
import uuid
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path
from typing import Any
from urllib.parse import quote

from harness.dns_zone import SERVFAIL, DnsServer, Zone, txt
from harness.http_client import HttpClient
from harness.process import DEV_INSTANCE, ServiceProcess, split_address
from harness.proxy_header import proxy_header
from harness.signed_mail import ed25519_key, key_zone, rsa_key
from harness.smtp_client import SmtpClient, accepted_id

HOSTNAME = "mx.example.org"
EHLO = "mail.reject.example"

# Whom the SPF records name, and whom they don't.
CLIENT = "192.0.2.1"
STRANGER = "198.51.100.1"
# Long enough that only a name server that never answers spends it.
BUDGET_MS = 60_000

_SPF = f"v=spf1 ip4:{CLIENT} -all"


def _with_policy(policy: str) -> Zone:
    domain = f"{policy}.example"
    return {
        domain: [txt(_SPF)],
        f"_dmarc.{domain}": [txt(f"v=DMARC1; p={policy}")],
        **key_zone(rsa_key(), domain),
    }


ZONE: Zone = {
    **_with_policy("none"),
    **_with_policy("quarantine"),
    **_with_policy("reject"),
    EHLO: [txt(_SPF)],
    "sub.reject.example": [txt(_SPF)],
    **key_zone(ed25519_key(), "ed.example"),
    "six.example": [txt("v=spf1 ip6:2001:db8::1 -all")],
    "soft.example": [txt(f"v=spf1 ip4:{CLIENT} ~all")],
    "neutral.example": [txt("v=spf1 ?all")],
    "plain.example": [("A", CLIENT)],
    "broken.example": [txt("v=spf1 nonsense:x -all")],
    "trouble.example": [SERVFAIL],
    "_dmarc.trouble.example": [SERVFAIL],
    "s1._domainkey.trouble.example": [SERVFAIL],
}


def environment(dns: DnsServer, **settings: str) -> dict[str, str]:
    """The settings that turn checks on, and let a test say who the client is."""
    values = {
        "hostname": HOSTNAME,
        "resolver": dns.address,
        "sender_checks": "on",
        "check_budget_ms": str(BUDGET_MS),
        "proxy_from": "127.0.0.1",
        "unlimited_peers": "0.0.0.0/0, ::/0",
    }
    return {f"READDRESS_{name.upper()}": value for name, value in (values | settings).items()}


def start(data: Path, dns: DnsServer, *options: str, **settings: str) -> ServiceProcess:
    return ServiceProcess(data, "--lmtp", "127.0.0.1:0", *options, environment=environment(dns, **settings))


def connect(address: str, *, source: str | None = CLIENT, hello: str = f"EHLO {EHLO}") -> SmtpClient:
    """A client that has said hello; the proxy itself where there is no source."""
    client = SmtpClient(split_address(address), greeting=False, timeout_s=60)
    client.send(proxy_header(source))
    client.greeting = client.read_reply()
    assert client.say(hello).startswith("250")
    return client


@dataclass(frozen=True)
class Judged:
    """A message as it is stored, and the verdicts that the API shows."""

    id: str
    raw: bytes
    verdicts: dict[str, Any]

    def shown(self, method: str) -> str:
        """The result; of DKIM, the results."""
        found = self.verdicts[method]
        return " ".join(one["Result"] for one in found) if isinstance(found, list) else found["Result"]


def send(
    process: ServiceProcess,
    recipient: str,
    content: bytes,
    *,
    sender: str,
    source: str | None = CLIENT,
    ehlo: str = EHLO,
) -> Judged:
    with connect(process.smtp, source=source, hello=f"EHLO {ehlo}") as client:
        message_id = accepted_id(client.mail(sender, recipient, content=content))
    return read(process, message_id)


def read(process: ServiceProcess, message_id: str) -> Judged:
    path = f"/_readdress/instances/{DEV_INSTANCE}/messages/{message_id}"
    with HttpClient(process.http_address) as http:
        facts = http.call("GET", path)
        content = http.call("GET", f"{path}/content")
    assert (facts.status, content.status) == (200, 200)
    return Judged(message_id, content.body, facts.json.get("Authentication", {}))


def mail_of(author: str, *, body: bytes = b"hello\r\n", top: bytes = b"") -> bytes:
    return (
        top
        + f"From: Ann <{author}>\r\nTo: help@example.com\r\nSubject: verdicts\r\n".encode()
        + b"Date: Sun, 22 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@sender.example>\r\n\r\n"
        + body
    )


def results_fields(raw: bytes) -> list[str]:
    """The Authentication-Results fields, unfolded, from top to bottom."""
    found = message_from_bytes(raw.replace(b"\r\n", b"\n").partition(b"\n\n")[0]).get_all("Authentication-Results", [])
    return [" ".join(str(value).split()) for value in found]


def results_of(raw: bytes, hostname: str = HOSTNAME) -> dict[str, list[str]]:
    """What our one field says, read by the authres library: results by method."""
    import authres

    (ours,) = [value for value in results_fields(raw) if re.match(rf"{re.escape(hostname)}\b", value)]
    read = authres.AuthenticationResultsHeader.parse(f"Authentication-Results: {ours}")
    results: dict[str, list[str]] = {}
    for one in read.results:
        results.setdefault(one.method, []).append(one.result)
    return results


def publish(
    process: ServiceProcess, text: str = "", *, instance_id: str = DEV_INSTANCE, **tags: str
) -> tuple[str, str]:
    """An address, a fresh one unless it is given, with our own tags: its id and its text."""
    text = text or f"help-{uuid.uuid4().hex[:12]}@example.com"
    with HttpClient(process.http_address) as http:
        made = http.call("PUT", f"/email-addresses/{instance_id}", {"EmailAddress": text})
        assert made.status == 200, made
        if tags:
            tag(http, made.json["EmailAddressArn"], **tags)
    return made.json["EmailAddressId"], text


def tag(http: HttpClient, arn: str, **tags: str) -> None:
    settings = {f"readdress:{name}": value for name, value in tags.items()}
    answer = http.call("POST", f"/tags/{quote(arn, safe='')}", {"tags": settings})
    assert answer.status == 200, answer
