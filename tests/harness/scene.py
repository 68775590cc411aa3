"""A fresh instance with two addresses and a mail, and every operation's good request for it, over either wire."""

import json
import re
import uuid
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import msgspec

from harness.http_client import HttpAnswer, HttpClient
from harness.process import ServiceProcess
from harness.smtp_client import SmtpClient
from readdress.api.operation import Operation

WIRES = ("REST", "JSON 1.1")
_INSTANCE = {"IdentityManagementType": "SAML", "InboundCallsEnabled": True, "OutboundCallsEnabled": True}
_QUERY_KINDS: dict[str, type] = {"MaxResults": int, "MinResults": int, "WaitMs": int, "tagKeys": list}


@dataclass(frozen=True)
class Scene:
    """What a good request may name."""

    instance_id: str
    primary_id: str
    alias_id: str
    address: str
    message_id: str
    delivery_id: str

    def good_values(self, operation: Operation) -> dict[str, Any]:
        """The required members and no other."""
        values = {
            "InstanceId": self.instance_id,
            "EmailAddressId": self.primary_id,
            "EmailAddress": f"new-{uuid.uuid4().hex}@example.com",
            "AliasConfiguration": {"EmailAddressId": self.alias_id},
            "resourceArn": f"arn:aws:connect:us-east-1:123456789012:instance/{self.instance_id}",
            "tags": {"team": "a"},
            "tagKeys": ["team"],
            "MessageId": self.message_id,
            "DeliveryId": self.delivery_id,
            "Recipient": self.address,
        } | _INSTANCE
        required = [field.encode_name for field in msgspec.structs.fields(operation.request) if field.required]
        return {name: values[name] for name in required}


def set_scene(client: HttpClient, service: ServiceProcess) -> Scene:
    instance_id = client.call("PUT", "/instance", _INSTANCE).json["Id"]
    texts = [f"{name}-{uuid.uuid4().hex}@example.com" for name in ("primary", "alias")]
    primary_id, alias_id = (
        client.call("PUT", f"/email-addresses/{instance_id}", {"EmailAddress": text}).json["EmailAddressId"]
        for text in texts
    )
    with SmtpClient(service.smtp_address) as smtp:
        smtp.say("EHLO sender.example")
        reply = smtp.mail("customer@sender.example", texts[0])
        smtp.say("QUIT")
    found = re.search(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", reply)
    assert found, reply
    (message,) = client.inbox(instance_id, primary_id)
    assert message["MessageId"] == found[0]
    return Scene(instance_id, primary_id, alias_id, texts[0], found[0], message["DeliveryId"])


def fits_rest(operation: Operation, values: dict[str, Any]) -> bool:
    """Whether a path and a query can say it: they carry text, and a query lists of text and integers too."""
    binding = operation.binding
    in_query = [(name, values[name]) for name in binding.query.values() if name in values]
    return all(isinstance(values.get(name), str) for name in binding.path_members) and all(
        type(value) is _QUERY_KINDS.get(name, str)
        and (not isinstance(value, list) or all(isinstance(item, str) for item in value))
        for name, value in in_query
    )


def send(client: HttpClient, wire: str, operation: Operation, values: dict[str, Any]) -> HttpAnswer:
    """The operation with exactly these values."""
    if wire == "JSON 1.1":
        headers = {
            "X-Amz-Target": f"AmazonConnectService.{operation.name}",
            "Content-Type": "application/x-amz-json-1.1",
        }
        return client.call("POST", "/", json.dumps(values).encode(), headers=headers)
    rest = dict(values)
    path = operation.binding.path
    for name in operation.binding.path_members:
        path = path.replace(f"{{{name}}}", quote(rest.pop(name), safe=""))
    fields = []
    for name, member in operation.binding.query.items():
        value = rest.pop(member, [])
        fields += [f"{name}={quote(str(item), safe='')}" for item in (value if isinstance(value, list) else [value])]
    if fields:
        path += "?" + "&".join(fields)
    body = None if operation.binding.method in {"GET", "DELETE"} else json.dumps(rest).encode()
    return client.call(operation.binding.method, path, body)
