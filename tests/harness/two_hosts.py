"""A Readdress that sends on by every transport, to a second one, which checks what comes to it."""

import re
import time
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path
from typing import Any

from harness import checked_mail
from harness.checked_mail import HOSTNAME, Judged, publish
from harness.dns_zone import DnsServer, Zone
from harness.http_client import HttpClient
from harness.process import DEV_INSTANCE, ServiceProcess, split_address
from harness.settings_file import write_settings
from harness.signed_mail import SELECTOR, key_zone, pem, rsa_key

NEXT_HOSTNAME = "mx.next.example"
NEXT_DOMAIN = "next.example"
SEAL_DOMAIN = "example.org"
WAIT_S_MAX = 30

SEAL_ZONE: Zone = key_zone(rsa_key(), SEAL_DOMAIN)

# The Received field of the first host, which has the message's id.
_RECEIVED_ID = re.compile(rf"by {re.escape(HOSTNAME)} with \S+ id (\S+?)[;\s]")


@dataclass(frozen=True)
class Place:
    """An address of the first host, and where its mail comes to rest: an inbox of either host, or a Maildir."""

    transport: str
    id: str
    text: str
    next_id: str


class TwoHosts:
    """`first` is behind a proxy of loopback, `next` is not. `settings` are those of the first."""

    def __init__(self, folder: Path, dns: DnsServer, **settings: Any) -> None:
        dns.update(SEAL_ZONE)
        self.folder = folder
        self.next = checked_mail.start(folder / "next", dns, hostname=NEXT_HOSTNAME, proxy_from="")
        key = folder / "seal.pem"
        key.write_bytes(pem(rsa_key()))
        host, port = split_address(self.next.smtp)
        to_next = {"type": "smtp", "host": host, "port": port, "tls": "none"}
        file = write_settings(
            folder / "settings.toml",
            transports={
                "files": {"type": "maildir", "path": f"{folder}/mail/{{address_id}}"},
                "store": {"type": "lmtp", "address": self.next.lmtp},
                "relay": {**to_next, "recipient": f"{{local_part}}@{NEXT_DOMAIN}"},
                "inside": to_next,
            },
            return_transport="inside",
            seal_domain=SEAL_DOMAIN,
            seal_selector=SELECTOR,
            seal_key=str(key),
            **settings,
        )
        self.first = checked_mail.start(folder / "first", dns, "--config", str(file))
        self._seen: dict[str, dict[str, bytes]] = {}
        self._read: dict[str, set[str]] = {}

    def stop(self) -> None:
        self.first.stop()
        self.next.stop()

    def publish(self, transport: str) -> Place:
        address_id, text = publish(self.first, transport=transport)
        next_id = ""
        if transport in ("store", "relay", "inside"):
            there = text if transport != "relay" else f"{text.partition('@')[0]}@{NEXT_DOMAIN}"
            next_id, _ = publish(self.next, there)
        return Place(transport, address_id, text, next_id)

    def stored(self, place: Place, message_id: str) -> bytes:
        """The message of the first host's id where it came to rest, with CRLF; a file of a Maildir as it is."""
        deadline = time.monotonic() + WAIT_S_MAX
        while message_id not in self._look(place, message_id):
            assert time.monotonic() < deadline, f"{message_id} did not come to {place}"
            time.sleep(0.01)
        return self._seen[place.id][message_id]

    def judged(self, place: Place, message_id: str) -> Judged:
        """The message where it came to rest at the next host, with what that found."""
        raw = self.stored(place, message_id)
        received = re.search(rf"by {re.escape(NEXT_HOSTNAME)} with \S+ id (\S+?)[;\s]", raw.decode("latin-1"))
        assert received
        return checked_mail.read(self.next, received[1])

    def wait_for_inbox(self, process: ServiceProcess, address_id: str) -> bytes:
        """The only message of an inbox, as soon as it is there."""
        path = f"/_readdress/instances/{DEV_INSTANCE}/messages"
        deadline = time.monotonic() + WAIT_S_MAX
        with HttpClient(process.http_address) as http:
            while not (found := http.inbox(DEV_INSTANCE, address_id)):
                assert time.monotonic() < deadline, "no mail came"
                time.sleep(0.01)
            (message,) = found
            return http.call("GET", f"{path}/{message['MessageId']}/content").body

    def _look(self, place: Place, message_id: str) -> dict[str, bytes]:
        seen = self._seen.setdefault(place.id, {})
        if message_id in seen:
            return seen
        if place.transport == "inbox":
            seen[message_id] = checked_mail.read(self.first, message_id).raw
        elif place.transport == "files":
            for file in (self.folder / "mail" / place.id / "new").glob("*"):
                content = file.read_bytes()
                seen[first_id(content)] = content
        else:
            self._look_next(place, seen)
        return seen

    def _look_next(self, place: Place, seen: dict[str, bytes]) -> None:
        path = f"/_readdress/instances/{DEV_INSTANCE}/messages"
        with HttpClient(self.next.http_address) as http:
            read = self._read.setdefault(place.id, set())
            found = {message["MessageId"] for message in http.inbox(DEV_INSTANCE, place.next_id)}
            for next_message_id in found - read:
                content = http.call("GET", f"{path}/{next_message_id}/content").body
                seen[first_id(content)] = content
                read.add(next_message_id)


def first_id(content: bytes) -> str:
    """The first host's id of a message, out of its Received field."""
    header = content.replace(b"\r\n", b"\n").partition(b"\n\n")[0]
    for value in message_from_bytes(header).get_all("Received", []):
        match = _RECEIVED_ID.search(" ".join(str(value).split()) + " ")
        if match:
            return match[1]
    raise AssertionError(header)
