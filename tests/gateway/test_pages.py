"""Pages in the words of ASGI: how an application's answer goes out, and what it hears of clients that go or dawdle."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from readdress.gateway.pages import Application, Message, Receive, Send
from readdress.gateway.protocol import HttpSettings
from readdress.gateway.server import HttpServer
from readdress.gateway.wire import HttpRequest, HttpResponse
from readdress.listening import listen

GET = b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n"
CALL = b"GET /call HTTP/1.1\r\nHost: a\r\n\r\n"


async def answer_call(request: HttpRequest) -> HttpResponse:
    return HttpResponse(413 if request.is_too_large else 200, "text/plain", b"called")


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def head(self) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 10)

    async def rest(self) -> bytes:
        return await asyncio.wait_for(self.reader.read(), 10)


@asynccontextmanager
async def served(application: Application, *, drain_s: float = 5) -> AsyncIterator[tuple[HttpServer, Client]]:
    settings = HttpSettings(
        connections_max=10,
        request_s=5,
        body_bytes_max=1_000,
        answer_call=answer_call,
        pages=b"/page",
        application=application,
    )
    listening = listen({"http": "127.0.0.1:0"}, workers=1)
    server = HttpServer(settings, drain_s=drain_s)
    await server.start(listening.sockets[0]["http"])
    reader, writer = await asyncio.open_connection(*listening.addresses["http"].split(":"))
    try:
        yield server, Client(reader, writer)
    finally:
        writer.close()
        await server.stop()


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(data: bytes = b"", *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


def says(*messages: Message) -> Application:
    async def application(_: Message, __: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return application


def test_an_answer_in_one_piece_is_told_its_length() -> None:
    async def talk() -> tuple[bytes, bytes]:
        async with served(says(start(201, (b"x", b"y")), body(b"page"))) as (_, client):
            client.writer.write(GET + GET.replace(b"a\r\n", b"a\r\nConnection: close\r\n"))
            return await client.head(), await client.rest()

    first, second = asyncio.run(talk())
    assert first.startswith(b"HTTP/1.1 201 Created\r\ndate: ")
    assert first.endswith(b"\r\nx: y\r\ncontent-length: 4\r\n\r\n")
    assert second.startswith(b"pageHTTP/1.1 201 Created")
    assert second.endswith(b"connection: close\r\n\r\npage")


def test_an_answer_in_pieces_goes_out_in_chunks_and_the_connection_stays() -> None:
    async def talk() -> tuple[bytes, bytes, bytes]:
        async with served(says(start(), body(b"one ", more=True), body(more=True), body(b"two"))) as (_, client):
            client.writer.write(GET + CALL)
            head = await client.head()
            chunks = await asyncio.wait_for(client.reader.readuntil(b"0\r\n\r\n"), 10)
            return head, chunks, await client.head() + await client.reader.readexactly(6)

    head, chunks, call = asyncio.run(talk())
    assert b"transfer-encoding: chunked\r\n" in head
    assert b"content-length" not in head
    assert chunks == b"4\r\none \r\n3\r\ntwo\r\n0\r\n\r\n"
    assert call.endswith(b"content-length: 6\r\n\r\ncalled")


def test_a_length_that_the_application_tells_is_kept() -> None:
    async def talk() -> bytes:
        messages = [start(200, (b"Content-Length", b"6")), body(b"one", more=True), body(b"two")]
        async with served(says(*messages)) as (_, client):
            client.writer.write(GET)
            return await client.head() + await client.reader.readexactly(6)

    said = asyncio.run(talk())
    assert said.count(b"ontent-") == 1
    assert said.endswith(b"onetwo")


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_an_answer_without_a_body_has_none(method: str, status: int) -> None:
    async def talk() -> tuple[bytes, bytes]:
        async with served(says(start(status), body(b"x" if status == 200 else b""))) as (_, client):
            client.writer.write(GET.replace(b"GET", method.encode()) + CALL)
            return await client.head(), await client.head()

    page, call = asyncio.run(talk())
    assert page.startswith(b"HTTP/1.1 %d" % status)
    assert (b"content-length: 1\r\n" in page) == (status == 200)
    assert b"chunked" not in page
    assert call.startswith(b"HTTP/1.1 200")


def test_what_is_asked_is_told_to_the_application() -> None:
    heard: list[Any] = []

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        heard.extend([scope, await receive()])
        await send(start())
        await send(body())

    async def talk() -> None:
        async with served(application) as (_, client):
            fields = b"Host: a\r\nX: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
            client.writer.write(b"POST /page/%C3%A9?a=%20 HTTP/1.1\r\n" + fields)
            client.writer.write(b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")
            await client.head()

    asyncio.run(talk())
    scope, message = heard
    assert message == {"type": "http.request", "body": b"abc", "more_body": False}
    assert (scope["method"], scope["path"], scope["raw_path"], scope["query_string"]) == (
        "POST", "/page/é", b"/page/%C3%A9", b"a=%20",
    )  # fmt: skip
    assert (b"x", b"1") in scope["headers"]
    assert scope["client"][0] == scope["server"][0] == "127.0.0.1"


def test_an_application_that_fails_before_it_answers_is_a_typed_500() -> None:
    async def talk() -> tuple[bytes, bytes]:
        async with served(fail_after()) as (_, client):
            client.writer.write(GET)
            return await client.head(), await client.reader.readuntil(b"}")

    head, said = asyncio.run(talk())
    assert head.startswith(b"HTTP/1.1 500 ")
    assert b"x-amzn-errortype: InternalServiceException" in head
    assert b"Trouble" not in said


@pytest.mark.parametrize("ends", ["fails", "returns"])
def test_an_answer_without_an_end_is_cut(ends: str) -> None:
    messages = (start(), body(b"half", more=True))
    application = fail_after(*messages) if ends == "fails" else says(*messages)

    async def talk() -> bytes:
        async with served(application) as (_, client):
            client.writer.write(GET + CALL)
            await client.head()
            return await client.rest()

    with contextlib.suppress(ConnectionResetError):  # which may come before everything is read
        assert asyncio.run(talk()) == b"4\r\nhalf\r\n"


class Trouble(Exception):
    pass


def fail_after(*messages: Message) -> Application:
    async def application(scope: Message, receive: Receive, send: Send) -> None:
        await says(*messages)(scope, receive, send)
        raise Trouble("Trouble")

    return application


def test_an_application_hears_that_its_client_has_gone_and_may_go_on_talking() -> None:
    heard: list[str] = []

    async def application(_: Message, receive: Receive, send: Send) -> None:
        await receive()
        await send(start())
        await send(body(b"hello", more=True))
        heard.append((await receive())["type"])
        await send(body(b"to nobody", more=True))
        await send(body(b"at all"))
        heard.append("done")

    async def talk() -> None:
        async with served(application) as (_, client):
            client.writer.write(GET)
            await client.head()
            client.writer.close()
            async with asyncio.timeout(10):
                while len(heard) < 2:
                    await asyncio.sleep(0.01)

    asyncio.run(talk())
    assert heard == ["http.disconnect", "done"]


def test_an_application_waits_for_a_slow_client() -> None:
    pieces, size = 400, 262_144
    sent = 0

    async def application(_: Message, __: Receive, send: Send) -> None:
        nonlocal sent
        await send(start())
        for _piece in range(pieces):
            await send(body(b"x" * size, more=True))
            sent += 1
        await send(body())

    async def talk() -> int:
        async with served(application) as (_, client):
            client.writer.write(GET)
            await client.head()
            await asyncio.sleep(0.3)
            waiting = sent
            received = 0
            while received < pieces * size:
                received += len(await asyncio.wait_for(client.reader.read(1_048_576), 10))
            return waiting

    assert asyncio.run(talk()) < pieces / 2  # what sockets hold, and no more


def test_a_page_that_never_ends_does_not_keep_the_server() -> None:
    async def go_on(_: Message, __: Receive, send: Send) -> None:
        await send(start())
        await send(body(b"on and on", more=True))
        await asyncio.Event().wait()

    async def talk() -> int:
        async with served(go_on, drain_s=0.2) as (server, client):
            client.writer.write(GET)
            await client.head()
            await server.stop()
            await asyncio.sleep(0)
            return server.connections

    assert asyncio.run(talk()) == 0


@pytest.mark.parametrize("size", [1_001, 100_000])
def test_a_form_that_is_too_large_is_refused(size: int) -> None:
    async def talk() -> bytes:
        async with served(says(start(), body())) as (_, client):
            client.writer.write(b"POST /page HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
            client.writer.write(b"x" * size)
            return await client.head()

    assert asyncio.run(talk()).startswith(b"HTTP/1.1 413")
