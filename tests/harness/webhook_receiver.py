"""The other end of a webhook: the library's own HTTP server in a thread, and a socket that says whatever it is told."""

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True)
class Posted:
    """A request as it came."""

    path: str
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def envelope(self) -> dict[str, Any]:
        envelope: dict[str, Any] = json.loads(self._part("envelope"))
        return envelope

    @property
    def message(self) -> bytes:
        return self._part("message")

    def _part(self, name: str) -> bytes:
        """RFC 7578: the parts by their names, cut out by the boundary, for a parser of mail would decode them."""
        head = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {self.headers['content-type']}\r\n\r\n".encode())
        boundary = f"\r\n--{head.get_boundary()}".encode()
        first, *parts, last = (b"\r\n" + self.body).split(boundary)
        assert (first, last) == (b"", b"--\r\n")
        for part in parts:
            header, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
            if f'name="{name}"'.encode() in header:
                return content
        raise AssertionError(f"no part {name}")


@dataclass(frozen=True)
class Answer:
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class WebhookReceiver:
    """Remembers every request, and answers as `answer` says."""

    def __init__(
        self, answer: Callable[[Posted], Answer] = lambda _: Answer(), *, certificate: tuple[Path, Path] | None = None
    ) -> None:
        self.posted: list[Posted] = []
        self.answer = answer
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._scheme = "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
            self._scheme = "https"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def port(self) -> int:
        return self._server.server_port

    def url(self, host: str = "127.0.0.1") -> str:
        return f"{self._scheme}://{host}:{self.port}/hook?of=test"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 10

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                body = self.rfile.read(length)
                if len(body) < length:
                    self.close_connection = True
                    return
                headers = {name.lower(): value for name, value in self.headers.items()}
                posted = Posted(self.path, headers, body)
                receiver.posted.append(posted)
                answer = receiver.answer(posted)
                self.send_response(answer.status)
                for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
                """Nothing: what was posted is remembered."""

            def handle(self) -> None:
                try:
                    super().handle()
                except OSError:  # the client has hung up, or did not like the certificate
                    self.close_connection = True

        return Handler


@contextmanager
def serve_raw(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """One connection, on which `talk` does what it likes; gives the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def serve() -> None:
            try:
                connection, _ = listener.accept()
            except OSError:  # nobody came
                return
            with connection:
                connection.settimeout(10)
                try:
                    talk(connection)
                except OSError:  # the client has hung up
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        yield int(listener.getsockname()[1])
        listener.close()
        thread.join()
