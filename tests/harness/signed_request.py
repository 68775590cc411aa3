"""A request signed by botocore, in parts that a test may change before it is sent or verified."""

from dataclasses import dataclass, field
from typing import Self

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from harness.http_client import HttpAnswer, HttpClient
from readdress.gateway.wire import HttpRequest


@dataclass
class SignedRequest:
    """What goes over the wire: `target` is path and query, header names are in lower case."""

    method: str = "POST"
    target: str = "/"
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def sign(
        self,
        *,
        access_key_id: str = "test",
        secret: str = "test",
        region: str = "us-east-1",
        service: str = "connect",
    ) -> Self:
        """Add X-Amz-Date and Authorization, over all headers that are there now."""
        self.headers.setdefault("host", "127.0.0.1")
        request = AWSRequest(self.method, f"http://{self.headers['host']}{self.target}", data=self.body)
        for name, value in self.headers.items():
            request.headers[name] = value
        SigV4Auth(Credentials(access_key_id, secret), service, region).add_auth(request)
        self.headers = {name.lower(): value for name, value in request.headers.items()}
        return self

    def replace_header(self, name: str, old: str, new: str) -> None:
        assert old in self.headers[name], self.headers[name]
        self.headers[name] = self.headers[name].replace(old, new, 1)

    def received(self) -> HttpRequest:
        """As the server has it before it."""
        path, _, query = self.target.partition("?")
        headers = [(name.encode(), _encode(value)) for name, value in self.headers.items()]
        return HttpRequest(self.method, path.encode(), query.encode(), headers, self.body)

    def send(self, client: HttpClient) -> HttpAnswer:
        """Over the client's connection, exactly as it stands."""
        client.connection.putrequest(self.method, self.target, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            client.connection.putheader(name, _encode(value))
        if "content-length" not in self.headers:
            client.connection.putheader("content-length", str(len(self.body)))
        client.connection.endheaders(self.body)
        response = client.connection.getresponse()
        answer = {name.lower(): value for name, value in response.getheaders()}
        return HttpAnswer(response.status, answer, response.read())


def _encode(value: str) -> bytes:
    """UTF-8, as signers read text; a byte that is none is written as in `os.fsdecode`."""
    return value.encode("utf-8", "surrogateescape")
