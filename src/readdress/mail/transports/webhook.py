"""Delivery to an HTTP endpoint: one POST with a JSON envelope and the message as it is, signed.

The body is multipart/form-data with the parts `envelope` and `message`. Signature and headers are those of Standard
Webhooks: `webhook-id` is the delivery's id, the key by which a receiver tells a second try; HMAC-SHA256 covers id,
time and body. Redirects are not followed, and addresses that are not public are refused unless allowed: a URL in the
configuration must not become a way into the network behind it.
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator
from typing import NamedTuple, NoReturn
from urllib.parse import urlsplit

import httptools
import msgspec

from readdress import __version__
from readdress.clock import Clock, iso_8601
from readdress.inbox import messages
from readdress.mail.transports import Job, Outcome, Result

RESPONSE_BYTES_MAX = 65_536
READ_BYTES = 16_384
_WITH_IPV4_AT_THE_END = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("::/96"))
SECRET_PREFIX = "whsec_"  # noqa: S105 - a prefix


class Endpoint(NamedTuple):
    """A URL in pieces; `target` is path and query."""

    host: str
    port: int
    target: str
    is_https: bool


class WebhookError(Exception):
    """The endpoint could not be asked; the text says why."""


class Webhook:
    """`secret` is bytes in base64 after `whsec_`, or any text; empty, nothing is signed."""

    def __init__(
        self,
        url: str,
        *,
        secret: str,
        timeout_s: float,
        allow_private: bool,
        ca_file: str,
        concurrency: int,
        keep_content: bool,
        clock: Clock,
    ) -> None:
        """Raises ValueError for a URL that can't be used."""
        self._endpoint = parse_url(url)
        self._key = _key(secret)
        self._timeout_s = timeout_s
        self._allow_private = allow_private
        self._tls = ssl.create_default_context(cafile=ca_file or None) if self._endpoint.is_https else None
        self._clock = clock
        self.concurrency = concurrency
        self.keep_content = keep_content

    async def deliver(self, job: Job) -> Result:
        remote = f"{self._endpoint.host}:{self._endpoint.port}"
        try:
            async with asyncio.timeout(self._timeout_s):
                status, text = await self._post(job)
        except TimeoutError:
            return Result(Outcome.TEMPORARY, "the endpoint did not answer in time", "4.4.1", remote)
        except (WebhookError, OSError, EOFError) as error:
            return Result(Outcome.TEMPORARY, f"the endpoint cannot be asked: {error}", "4.4.1", remote)
        said = f"HTTP {status} {text}".strip()
        if 200 <= status < 300:
            return Result(Outcome.DELIVERED, said, "2.0.0", remote, is_remote=True)
        if status == 406:  # the one answer by which a receiver refuses the mail itself; others are taken for trouble
            return Result(Outcome.PERMANENT, said, "5.0.0", remote, is_remote=True)
        return Result(Outcome.TEMPORARY, said, "4.0.0", remote, is_remote=True)

    async def _post(self, job: Job) -> tuple[int, str]:
        """The status and the beginning of the answer."""
        boundary = f"readdress-{job.delivery.id}-{job.attempt}"
        opening, closing = _frame(job, boundary)
        at_s = self._clock.now_ms() // 1000
        signer = hmac.new(self._key, f"{job.delivery.id}.{at_s}.".encode(), hashlib.sha256)
        length = 0
        async for piece in _body(job, opening, closing):
            signer.update(piece)
            length += len(piece)
        headers = {
            "Host": self._host_field(),
            "User-Agent": f"Readdress/{__version__}",
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(length),
            "Connection": "close",
            "webhook-id": job.delivery.id,
            "webhook-timestamp": str(at_s),
            "Idempotency-Key": job.delivery.id,
        }
        if self._key:
            headers["webhook-signature"] = "v1," + base64.b64encode(signer.digest()).decode()
        lines = [f"POST {self._endpoint.target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        reader, writer = await self._connect()
        writer.write("\r\n".join([*lines, "", ""]).encode())
        writing = asyncio.create_task(_write(writer, _body(job, opening, closing)))
        reading = asyncio.create_task(_read_response(reader))
        try:
            await asyncio.wait({writing, reading}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():  # else the endpoint has answered before it read everything
                await writing
            return await reading
        finally:
            writer.transport.abort()  # closing in order would wait for who does not read
            for task in (writing, reading):
                task.cancel()
            await asyncio.gather(writing, reading, return_exceptions=True)

    def _host_field(self) -> str:
        host = f"[{self._endpoint.host}]" if ":" in self._endpoint.host else self._endpoint.host
        default_port = 443 if self._endpoint.is_https else 80
        return host if self._endpoint.port == default_port else f"{host}:{self._endpoint.port}"

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """To the very address that was looked at: a second look-up could give another one."""
        endpoint = self._endpoint
        found = await asyncio.get_running_loop().getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        allowed = [address for address in addresses if self._allow_private or is_public(address)]
        if not allowed:
            raise WebhookError(f"{endpoint.host} is not at a public address; allow_private = true allows that")
        error: OSError | None = None
        for address in allowed:
            try:
                return await asyncio.open_connection(
                    address,
                    endpoint.port,
                    ssl=self._tls,
                    server_hostname=endpoint.host if self._tls else None,
                )
            except OSError as failure:
                error = failure
        assert error is not None
        raise error


def parse_url(url: str) -> Endpoint:
    """Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
        raise ValueError("the URL has to be http:// or https:// with a host and without credentials")
    is_https = parts.scheme == "https"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not target.isascii() or any(character <= " " for character in target):
        raise ValueError("the URL's path has to be percent-encoded")
    host = parts.hostname.encode("idna").decode() if not parts.hostname.isascii() else parts.hostname
    return Endpoint(host, parts.port or (443 if is_https else 80), target, is_https)


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the open internet; an IPv4 address inside an IPv6 one is looked at itself."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        if found.is_site_local:
            return False
        found = found.ipv4_mapped or found.sixtofour or _last_four_bytes(found) or found
    return found.is_global and not found.is_multicast


def _last_four_bytes(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that a translator makes of it (RFC 6052 §2.1), or that it is compatible with (RFC 4291)."""
    if any(address in network for network in _WITH_IPV4_AT_THE_END):
        return ipaddress.IPv4Address(address.packed[-4:])
    return None


def _key(secret: str) -> bytes:
    if secret.startswith(SECRET_PREFIX):
        return base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    return secret.encode()


def _frame(job: Job, boundary: str) -> tuple[bytes, bytes]:
    """What comes before the message, and after it."""
    message, delivery = job.message, job.delivery
    envelope = {
        "DeliveryId": delivery.id,
        "MessageId": message.id,
        "InstanceId": delivery.instance_id,
        "EmailAddressId": delivery.address_id,
        "EmailAddress": delivery.address,
        "Sender": message.sender,
        "Recipients": delivery.recipients,
        "Reasons": [{"Reason": reason, "AliasId": alias_id} for reason, alias_id in delivery.reasons],
        "Subject": message.subject,
        "SizeBytes": message.size_bytes,
        "ReceivedTimestamp": iso_8601(message.received_ms),
        "Connection": {"Peer": message.peer, "Ehlo": message.ehlo, "Tls": message.tls},
        "Authentication": msgspec.json.decode(message.verdicts) if message.verdicts else None,
        "Attempt": job.attempt,
    }
    opening = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="envelope"\r\nContent-Type: application/json\r\n\r\n'
    ).encode()
    opening += msgspec.json.encode(envelope)
    opening += (
        f'\r\n--{boundary}\r\nContent-Disposition: form-data; name="message"; filename="{message.id}.eml"\r\n'
        "Content-Type: message/rfc822\r\n\r\n"
    ).encode()
    opening += messages.final_trace(message, delivery).encode()
    return opening, f"\r\n--{boundary}--\r\n".encode()


async def _body(job: Job, opening: bytes, closing: bytes) -> AsyncIterator[bytes]:
    yield opening
    async for piece in job.content():
        yield piece
    yield closing


async def _write(writer: asyncio.StreamWriter, pieces: AsyncIterator[bytes]) -> None:
    with contextlib.suppress(ConnectionError):  # what the endpoint has said before it hung up is still to be read
        async for piece in pieces:
            writer.write(piece)
            await writer.drain()


class _Response:
    """What httptools' parser tells, as far as it is wanted: of the last response, after those with 1xx."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.status = 0
        self.body = b""
        self.is_complete = False

    def on_headers_complete(self) -> None:
        status = self.parser.get_status_code()
        self.status = status if status >= 200 else 0

    def on_body(self, body: bytes) -> None:
        self.body += body[: RESPONSE_BYTES_MAX - len(self.body)]

    def on_message_complete(self) -> None:
        self.is_complete = self.status > 0


async def _read_response(reader: asyncio.StreamReader) -> tuple[int, str]:
    """The status, and the beginning of the body in one line."""
    response = _Response()
    taken = 0
    while not response.is_complete and taken <= RESPONSE_BYTES_MAX:
        data = await reader.read(READ_BYTES)
        taken += len(data)
        if not data:
            break
        try:
            response.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            _refuse("it does not speak HTTP")
    if not response.status:
        _refuse("it gave no answer, or one without an end")
    text = response.body[:200].decode("utf-8", "replace")
    return response.status, "".join(letter if letter.isprintable() else " " for letter in text)


def _refuse(reason: str) -> NoReturn:
    raise WebhookError(reason)
