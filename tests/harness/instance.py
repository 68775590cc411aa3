"""One fresh instance of the running program, in the tests' words: publish, associate, send a mail, read an inbox."""

import re
import smtplib
import uuid
from typing import Any, NamedTuple

from harness.engine import open_beside
from harness.http_client import HttpClient
from harness.process import ServiceProcess

ACCOUNT = "123456789012"
REGION = "us-east-1"
UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"


class Published(NamedTuple):
    """An email address of an instance."""

    id: str
    text: str


class Instance:
    """An instance that no other test knows; `connect` is a boto3 client."""

    def __init__(self, service: ServiceProcess, connect: Any, http: HttpClient) -> None:
        self.service = service
        self.connect = connect
        self.http = http
        created = connect.create_instance(
            IdentityManagementType="CONNECT_MANAGED", InboundCallsEnabled=True, OutboundCallsEnabled=True
        )
        self.id: str = created["Id"]

    def arn(self, address_id: str | None = None, *, account: str = ACCOUNT, region: str = REGION) -> str:
        """Contract 5: the ARN of the instance, or of an address in it."""
        address = f"/email-address/{address_id}" if address_id else ""
        return f"arn:aws:connect:{region}:{account}:instance/{self.id}{address}"

    def publish(self, name: str = "help", **members: Any) -> Published:
        text = members.pop("EmailAddress", None) or f"{name}-{uuid.uuid4().hex[:12]}@example.com"
        made = self.connect.create_email_address(InstanceId=self.id, EmailAddress=text, **members)
        return Published(made["EmailAddressId"], text)

    def describe(self, address_id: str) -> dict[str, Any]:
        described: dict[str, Any] = self.connect.describe_email_address(InstanceId=self.id, EmailAddressId=address_id)
        return described

    def associate(self, *, primary: str, alias: str, **members: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.connect.associate_email_address_alias(
            InstanceId=self.id, EmailAddressId=primary, AliasConfiguration={"EmailAddressId": alias}, **members
        )
        return answer

    def disassociate(self, *, primary: str, alias: str, **members: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.connect.disassociate_email_address_alias(
            InstanceId=self.id, EmailAddressId=primary, AliasConfiguration={"EmailAddressId": alias}, **members
        )
        return answer

    def delete(self, address_id: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.connect.delete_email_address(InstanceId=self.id, EmailAddressId=address_id)
        return answer

    def aliases_of(self, primary_id: str) -> list[str]:
        return [alias["EmailAddressId"] for alias in self.describe(primary_id)["AliasConfigurations"]]

    def send(self, *recipients: str, subject: str = "hello", sender: str = "customer@sender.example") -> str:
        """A mail by SMTP; gives the message's id out of the reply (contract 6). Raises SMTPRecipientsRefused."""
        return self.send_content(f"Subject: {subject}\r\n\r\nbody\r\n".encode(), *recipients, sender=sender)

    def send_content(self, content: bytes, *recipients: str, sender: str = "customer@sender.example") -> str:
        with smtplib.SMTP(*self.service.smtp_address, timeout=30) as smtp:
            smtp.ehlo("sender.example")
            smtp.mail(sender)
            for recipient in recipients:
                code, text = smtp.rcpt(recipient)
                if code != 250:
                    raise smtplib.SMTPRecipientsRefused({recipient: (code, text)})
            code, reply = smtp.data(content)
        assert code == 250, reply
        found = re.search(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", reply)
        assert found, reply
        return found[0].decode()

    def refusal_of(self, recipient: str) -> bytes:
        """What SMTP says at RCPT: `550 5.1.1`, the first words of it."""
        try:
            self.send(recipient)
        except smtplib.SMTPRecipientsRefused as refused:
            code, text = refused.recipients[recipient]
            return str(code).encode() + b" " + text.split(b" ")[0]
        return b"250"

    def subjects(self, address_id: str) -> list[str]:
        """What is in the address's inbox, oldest first."""
        return [message["Subject"] for message in reversed(self.http.inbox(self.id, address_id))]

    def tag_rows(self, resource_id: str) -> int:
        """How many tags the database keeps for a resource, even for one that no operation can name any more."""
        with open_beside(self.service.data) as rows:
            found = rows.execute(f"SELECT count(*) FROM tag WHERE resource_id = '{resource_id}'").fetchone()
        return int(found[0])
