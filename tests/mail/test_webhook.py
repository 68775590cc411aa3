"""Delivery to an HTTP endpoint: what is posted, how it is signed, what each answer means, and where it never goes."""

import asyncio
import base64
import hashlib
import hmac
import json
import re
import socket
import threading
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import ManualClock
from harness.certificates import write_certificate
from harness.jobs import CONTENT, RECEIVED_MS, make_delivery, make_job
from harness.webhook_receiver import Answer, Posted, WebhookReceiver, serve_raw
from readdress.clock import Clock
from readdress.inbox.messages import Reason
from readdress.mail.transports import Job, Outcome, Result
from readdress.mail.transports.webhook import RESPONSE_BYTES_MAX, Webhook, is_public, parse_url
from readdress.store.database import StoreUnavailable

KEY = bytes(range(24))
ENCODED_KEY = "whsec_" + base64.b64encode(KEY).decode()


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as started:
        yield started


def make_webhook(url: str, clock: Clock | None = None, **options: Any) -> Webhook:
    settings: dict[str, Any] = {"secret": "", "timeout_s": 10, "allow_private": True, "ca_file": ""} | options
    return Webhook(url, concurrency=1, keep_content=False, clock=clock or Clock(), **settings)


def post(url: str, job: Job | None = None, clock: Clock | None = None, **options: Any) -> Result:
    return asyncio.run(make_webhook(url, clock, **options).deliver(job or make_job()))


def test_the_envelope_says_all_that_is_known_and_the_message_is_whole(receiver: WebhookReceiver) -> None:
    job = make_job()
    alias_id = "33333333-3333-7333-8333-333333333333"
    delivery = make_delivery(job.message.id, recipients=["a@example.com"], reasons=[Reason("ALIAS", alias_id)])
    result = post(receiver.url(), Job(delivery, job.message, 3, job.content))
    assert result == Result(
        Outcome.DELIVERED, "HTTP 204", "2.0.0", f"127.0.0.1:{receiver.port}", is_remote=True, is_final=True
    )
    (posted,) = receiver.posted
    assert posted.path == "/hook?of=test"
    assert posted.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert posted.envelope == {
        "DeliveryId": delivery.id,
        "MessageId": job.message.id,
        "InstanceId": delivery.instance_id,
        "EmailAddressId": delivery.address_id,
        "EmailAddress": "help@example.com",
        "Sender": "ann@sender.example",
        "Recipients": ["a@example.com"],
        "Reasons": [{"Reason": "ALIAS", "AliasId": alias_id}],
        "Subject": "hello",
        "SizeBytes": len(CONTENT),
        "ReceivedTimestamp": "2026-01-01T00:00:00.000Z",
        "Connection": {"Peer": "192.0.2.7", "Ehlo": "sender.example", "Tls": None},
        "Authentication": None,
        "Attempt": 3,
    }
    assert posted.message == (
        b"Return-Path: <ann@sender.example>\r\nDelivered-To: help@example.com\r\nX-Original-To: a@example.com\r\n"
        b"Received: from sender.example ([192.0.2.7])\r\n\tby mx.example with ESMTP id 1\r\n" + CONTENT
    )


def test_what_the_checks_found_is_json_in_the_envelope(receiver: WebhookReceiver) -> None:
    post(receiver.url(), make_job(verdicts=json.dumps({"Spf": "pass"})))
    assert receiver.posted[0].envelope["Authentication"] == {"Spf": "pass"}


def verify(posted: Posted, key: bytes) -> None:
    """As the specification of Standard Webhooks has it: v1 is HMAC-SHA256 over id, time and body, in base64."""
    signed = f"{posted.headers['webhook-id']}.{posted.headers['webhook-timestamp']}.".encode() + posted.body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert posted.headers["webhook-signature"] == f"v1,{expected}"


@pytest.mark.parametrize(("secret", "key"), [(ENCODED_KEY, KEY), ("any text \u00e9", "any text \u00e9".encode())])
def test_a_receiver_can_verify_who_posted_what_and_when(
    receiver: WebhookReceiver, clock: Clock, secret: str, key: bytes
) -> None:
    job = make_job()
    post(receiver.url(), job, clock, secret=secret)
    (posted,) = receiver.posted
    verify(posted, key)
    assert posted.headers["webhook-timestamp"] == str(RECEIVED_MS // 1000)  # seconds, of the clock of the test
    assert posted.headers["webhook-id"] == posted.headers["idempotency-key"] == job.delivery.id
    with pytest.raises(AssertionError):
        verify(posted, b"another key")


@pytest.mark.parametrize("secret", [ENCODED_KEY, "any text"])
def test_the_documented_check_accepts_what_is_posted_and_nothing_else(receiver: WebhookReceiver, secret: str) -> None:
    document = Path(__file__).parents[2] / "docs" / "onward.md"
    (snippet,) = re.findall(
        r"^```python\n(import base64\n.*?)^```$", document.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    names: dict[str, Any] = {}
    exec(snippet, names)
    is_authentic = names["is_authentic"]
    post(receiver.url(), secret=secret)
    post(receiver.url(), clock=ManualClock(RECEIVED_MS), secret=secret)
    now, long_ago = receiver.posted
    assert is_authentic(now.headers, now.body, secret)
    assert not is_authentic(now.headers, now.body + b"x", secret)
    assert not is_authentic(now.headers, now.body, "another")
    assert not is_authentic(long_ago.headers, long_ago.body, secret)


def test_without_a_secret_nothing_is_signed(receiver: WebhookReceiver) -> None:
    post(receiver.url())
    assert "webhook-signature" not in receiver.posted[0].headers


def test_a_secret_that_is_no_base64_is_refused() -> None:
    with pytest.raises(ValueError, match=r"base64|padding"):
        make_webhook("https://hook.example/", secret="whsec_???")


def test_the_key_of_a_delivery_is_the_same_in_every_try(receiver: WebhookReceiver) -> None:
    job, other = make_job(), make_job()
    for attempt in (1, 2):
        post(receiver.url(), Job(job.delivery, job.message, attempt, job.content), secret=ENCODED_KEY)
    post(receiver.url(), other)
    keys = [posted.headers["idempotency-key"] for posted in receiver.posted]
    assert keys == [job.delivery.id, job.delivery.id, other.delivery.id]
    assert [posted.envelope["Attempt"] for posted in receiver.posted] == [1, 2, 1]


@pytest.mark.parametrize(
    ("status", "outcome", "enhanced"),
    [
        *((status, Outcome.DELIVERED, "2.0.0") for status in (200, 201, 204, 299)),
        *((status, Outcome.TEMPORARY, "4.0.0") for status in (300, 301, 304, 400, 401, 404, 410, 429, 500, 503)),
        (406, Outcome.PERMANENT, "5.0.0"),  # the one answer by which an endpoint refuses a mail for good
    ],
)
def test_only_2xx_is_delivered_and_only_406_is_for_good(
    receiver: WebhookReceiver, status: int, outcome: Outcome, enhanced: str
) -> None:
    receiver.answer = lambda _: Answer(status)
    result = post(receiver.url())
    assert (result.outcome, result.enhanced, result.reply) == (outcome, enhanced, f"HTTP {status}")


def test_the_beginning_of_the_answer_is_told_in_one_line(receiver: WebhookReceiver) -> None:
    receiver.answer = lambda _: Answer(500, body="no\r\nmore \x1b[31mr\u00f6\u00f6m ".encode() + b"x" * 1_000)
    reply = post(receiver.url()).reply
    assert reply.startswith("HTTP 500 no  more  [31mr\u00f6\u00f6m xxx")
    assert len(reply) <= 210
    assert reply.isprintable()


def test_a_redirect_is_not_followed(receiver: WebhookReceiver) -> None:
    with WebhookReceiver() as elsewhere:
        receiver.answer = lambda _: Answer(307, {"Location": elsewhere.url()})
        assert post(receiver.url()).outcome is Outcome.TEMPORARY
        assert elsewhere.posted == []
    assert len(receiver.posted) == 1


def read_request(connection: socket.socket) -> None:
    taken = b""
    while not taken.rstrip(b"\r\n").endswith(b"--") or b"\r\n\r\n" not in taken:
        data = connection.recv(65_536)
        if not data:
            return
        taken += data


def say(*pieces: bytes) -> Callable[[socket.socket], None]:
    """Take the request, say that, hang up."""

    def talk(connection: socket.socket) -> None:
        read_request(connection)
        for piece in pieces:
            connection.sendall(piece)

    return talk


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 O",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"220 mx.example ESMTP\r\n",
        b"\x00\x01\x02\xff" * 100,
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2 * RESPONSE_BYTES_MAX,
    ],
    ids=["none", "half a line", "half a head", "SMTP", "noise", "no status", "only 100", "101", "endless head"],
)
def test_what_is_no_answer_is_temporary(answer: bytes) -> None:
    with serve_raw(say(answer)) as port:
        result = post(f"http://127.0.0.1:{port}/")
    assert (result.outcome, result.enhanced, result.is_remote) == (Outcome.TEMPORARY, "4.4.1", False)
    assert "cannot be asked" in result.reply


@pytest.mark.parametrize(
    "answer",
    [
        [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n", b"ok\r\n0\r\n\r\n"],
        [b"HTTP/1.0 200 OK\r\n\r\n", b"until the end"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbroken off"],
    ],
    ids=["after 100", "chunked", "HTTP/1.0", "broken body"],
)
def test_an_answer_counts_once_its_head_is_there(answer: list[bytes]) -> None:
    with serve_raw(say(*answer)) as port:
        assert post(f"http://127.0.0.1:{port}/").outcome is Outcome.DELIVERED


def test_a_huge_answer_is_not_read_to_its_end() -> None:
    sent = 0

    def talk(connection: socket.socket) -> None:
        nonlocal sent
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b"x" * 65_536)  # an OSError ends it
            sent += 65_536

    with serve_raw(talk) as port:
        assert post(f"http://127.0.0.1:{port}/").outcome is Outcome.DELIVERED
    assert sent < 50_000_000


def deliver_in_time(port: int, job: Job) -> Result:
    webhook = make_webhook(f"http://127.0.0.1:{port}/", timeout_s=0.3)

    async def deliver() -> Result:
        return await asyncio.wait_for(webhook.deliver(job), 10)

    return asyncio.run(deliver())


def test_who_does_not_answer_holds_a_try_up_for_its_time_only() -> None:
    def talk(connection: socket.socket) -> None:
        read_request(connection)
        assert connection.recv(1) == b""  # until the other side hangs up

    with serve_raw(talk) as port:
        result = deliver_in_time(port, make_job())
    assert (result.outcome, result.reply) == (Outcome.TEMPORARY, "the endpoint did not answer in time")


def test_who_does_not_read_holds_a_try_up_for_its_time_only() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:  # its backlog takes the connection, nobody reads
        result = deliver_in_time(listener.getsockname()[1], make_job(b"x" * 20_000_000))
    assert (result.outcome, result.reply) == (Outcome.TEMPORARY, "the endpoint did not answer in time")


def test_an_endpoint_that_answers_without_reading_is_heard() -> None:
    is_heard = threading.Event()

    def talk(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 406 Not Acceptable\r\nContent-Length: 0\r\n\r\n")
        is_heard.wait(10)

    with serve_raw(talk) as port:
        result = post(f"http://127.0.0.1:{port}/", make_job(b"x" * 20_000_000))
        is_heard.set()
    assert result.outcome is Outcome.PERMANENT


def test_trouble_with_the_content_is_no_answer(receiver: WebhookReceiver) -> None:
    job = make_job()

    async def broken() -> AsyncIterator[bytes]:
        if reads:
            raise StoreUnavailable
        reads.append(1)
        yield CONTENT

    reads: list[int] = []
    with pytest.raises(StoreUnavailable):  # which the runner takes for its own
        post(receiver.url(), Job(job.delivery, job.message, 1, broken))
    assert receiver.posted == []


def test_nobody_there_is_temporary() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    result = post(f"http://127.0.0.1:{port}/")
    assert (result.outcome, result.is_remote) == (Outcome.TEMPORARY, False)


@pytest.mark.parametrize(
    ("address", "is_open"),
    [
        ("192.0.2.1", False),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("255.255.255.255", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("fec0::1", False),
        ("ff02::1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:127.0.0.1", False),
        ("::10.0.0.1", False),
        ("2002:a00:1::1", False),  # 6to4 of 10.0.0.1
        ("64:ff9b::a00:1", False),  # RFC 6052: a translator makes 10.0.0.1 of it
        ("64:ff9b::808:808", True),
        ("::ffff:8.8.8.8", True),
        ("2002:808:808::1", True),
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
    ],
)
def test_which_addresses_are_public(address: str, is_open: bool) -> None:
    # RFC 6890, and for those that carry an IPv4 address, that one.
    assert is_public(address) is is_open


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "[::1]", "10.0.0.1", "[::ffff:10.0.0.1]", "169.254.169.254", "localhost", "2130706433", "0x7f.1"],
)
def test_an_address_that_is_not_public_is_refused_unless_allowed(receiver: WebhookReceiver, host: str) -> None:
    # Names count by what they resolve to, and the resolver knows odd forms of 127.0.0.1, too.
    result = post(f"http://{host}:{receiver.port}/", allow_private=False)
    assert result.outcome is Outcome.TEMPORARY
    assert "not at a public address" in result.reply
    assert receiver.posted == []


def test_every_address_of_a_name_is_looked_at(receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name at a public and a private address is asked at the public one only, and that very address."""
    asked: list[str] = []

    async def connect(host: str, port: int, **_: Any) -> Any:
        asked.append(host)
        raise ConnectionRefusedError

    async def run() -> Result:
        async def resolve(*_: Any, **__: Any) -> list[Any]:
            return [(0, 0, 0, "", (address, 80)) for address in ("10.0.0.1", "203.0.114.1", "::1")]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
        return await make_webhook("http://two.example/", allow_private=False).deliver(make_job())

    monkeypatch.setattr(asyncio, "open_connection", connect)
    assert asyncio.run(run()).outcome is Outcome.TEMPORARY
    assert asked == ["203.0.114.1"]


def test_https_is_verified_against_the_authorities_given(tmp_path: Path) -> None:
    certificate = write_certificate(tmp_path, serial_number=1)
    with WebhookReceiver(certificate=certificate) as receiver:
        right = post(receiver.url("localhost"), ca_file=str(certificate[0]))
        wrong_name = post(receiver.url("127.0.0.1"), ca_file=str(certificate[0]))
        unknown = post(receiver.url("localhost"))
        assert len(receiver.posted) == 1
    assert right.outcome is Outcome.DELIVERED
    assert (wrong_name.outcome, unknown.outcome) == (Outcome.TEMPORARY, Outcome.TEMPORARY)
    assert re.search("certificate", wrong_name.reply, re.IGNORECASE)
    assert re.search("certificate", unknown.reply, re.IGNORECASE)


def test_a_big_message_passes_through_little_memory() -> None:
    content = b"0123456789abcdef" * 312_500
    digest = hashlib.sha256()

    def talk(connection: socket.socket) -> None:
        head, _, body = connection.recv(2_000).partition(b"\r\n\r\n")
        found = re.search(rb"Content-Length: (\d+)", head)
        assert found
        missing = int(found[1]) - len(body)
        digest.update(body)
        while missing > 0:
            body = connection.recv(16_384)
            digest.update(body)
            missing -= len(body)
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    job = make_job(content)
    with serve_raw(talk) as port:
        tracemalloc.start()
        try:
            assert post(f"http://127.0.0.1:{port}/", job, secret=ENCODED_KEY).outcome is Outcome.DELIVERED
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak_bytes < 2_000_000
    with WebhookReceiver() as receiver:
        post(receiver.url(), job, secret=ENCODED_KEY)
    assert digest.digest() == hashlib.sha256(receiver.posted[0].body).digest()
    assert receiver.posted[0].message.endswith(b"\r\n" + content)


@pytest.mark.parametrize(
    "url", ["ftp://a.example/", "http:///x", "http://user:secret@a.example/", "https://a.example/\u00e9", "http://a:b/"]
)
def test_a_url_that_cannot_be_asked_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|[Pp]ort"):
        parse_url(url)


def test_a_url_in_pieces() -> None:
    assert parse_url("https://H\u00f6ok.example?x=1")[:4] == ("xn--hok-sna.example", 443, "/?x=1", True)
    assert parse_url("http://[::1]:8080/a")[:4] == ("::1", 8080, "/a", False)
