"""Raw HTTP, signed by botocore's signer or not at all: the body and headers are exactly what the test says."""

import http.client
import json
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import quote

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials


@dataclass
class HttpAnswer:
    status: int
    headers: dict[str, str] = field(repr=False)
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        return self.headers.get("x-amzn-errortype")


class HttpClient:
    """One keep-alive connection to the service."""

    def __init__(
        self,
        address: tuple[str, int],
        *,
        access_key_id: str = "test",
        secret: str = "test",
        token: str | None = None,
        region: str = "us-east-1",
        service: str = "connect",
    ) -> None:
        self.address = address
        self.signer = SigV4Auth(Credentials(access_key_id, secret, token), service, region)
        self.connection = http.client.HTTPConnection(*address, timeout=30)

    def call(
        self,
        method: str,
        path: str,
        body: bytes | dict[str, Any] | None = None,
        *,
        headers: dict[str, str] | None = None,
        sign: bool = True,
    ) -> HttpAnswer:
        """Send `path` as it is (percent-encode it before) and read the whole answer."""
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        url = f"http://{self.address[0]}:{self.address[1]}{path}"
        request = AWSRequest(method, url, data=data, headers=headers or {})
        if data is not None and "Content-Type" not in request.headers:
            request.headers["Content-Type"] = "application/json"
        if sign:
            self.signer.add_auth(request)
        self.connection.request(method, path, body=data, headers=dict(request.headers.items()))
        response = self.connection.getresponse()
        answer = {name.lower(): value for name, value in response.getheaders()}
        return HttpAnswer(response.status, answer, response.read())

    def rpc(self, operation: str, members: dict[str, Any]) -> HttpAnswer:
        """The same operation on the JSON 1.1 wire."""
        headers = {
            "X-Amz-Target": f"AmazonConnectService.{operation}",
            "Content-Type": "application/x-amz-json-1.1",
        }
        return self.call("POST", "/", members, headers=headers)

    def inbox(self, instance_id: str, address_id: str) -> list[dict[str, Any]]:
        """Every message in the address's inbox, newest first."""
        messages: list[dict[str, Any]] = []
        query = ""
        while True:
            path = f"/_readdress/instances/{instance_id}/email-addresses/{address_id}/messages?maxResults=100{query}"
            answer = self.call("GET", path)
            assert answer.status == 200, answer
            messages += answer.json["Messages"]
            if "NextToken" not in answer.json:
                return messages
            query = "&nextToken=" + quote(answer.json["NextToken"], safe="")

    def close(self) -> None:
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
