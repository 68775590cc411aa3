"""What a test has in its hands: an instance, addresses, a client, mail out and mail in. It ends with the test."""

from __future__ import annotations

import secrets
import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from email.message import EmailMessage

    from readdress.store.database import Transaction
    from readdress.testing.clock import TimeOfService
    from readdress.testing.faults import FaultsOfTest
    from readdress.testing.mail import Message
    from readdress.testing.running import RunningService

__tracebackhide__ = True  # what fails here is the test's affair: pytest shows the line in the test

SENDER = "customer@example.org"
TIMEOUT_S = 5.0
SMTP_TIMEOUT_S = 30.0


class Published(str):
    """A published address: the text, with its id and ARN."""

    __slots__ = ("arn", "id")
    id: str
    arn: str

    @classmethod
    def make(cls, text: str, *, address_id: str, arn: str) -> Published:
        made = cls(text)
        made.id, made.arn = address_id, arn
        return made


class Readdress:
    """The service as one test sees it: in an account of its own, with one instance and nothing else."""

    def __init__(self, running: RunningService) -> None:
        from readdress.testing.clock import TimeOfService
        from readdress.testing.faults import FaultsOfTest

        self._running = running
        self.faults: FaultsOfTest = FaultsOfTest(running.faults)
        self.clock: TimeOfService = TimeOfService(running.clock)
        self._account = f"{secrets.randbelow(10**12):012d}"
        self._domain = f"{secrets.token_hex(5)}.test"
        self.instance_id = str(uuid.uuid4())
        running.change(self._begin)

    def _begin(self, tx: Transaction) -> None:
        """The key that every client signs with, however long it has been there, acts in this test's account now."""
        from readdress.directory import instances
        from readdress.service import DEV_KEY, dev_instance
        from readdress.testing.inboxes import sql

        tx.send(sql.assign_key, id=DEV_KEY, account=self._account)
        instances.create(tx, dev_instance(self.instance_id, account=self._account, alias=None, now_ms=tx.now_ms))

    def close(self) -> None:
        """The account is empty again, so that another test may publish the same addresses, and it is now."""
        from readdress.directory import instances

        self.clock.reset()
        self.faults.clear()

        def end(tx: Transaction) -> None:
            while found := instances.list_page(tx, account=self._account, after="", limit=100):
                for instance in found:
                    instances.delete(tx, instance.id)

        self._running.change(end)

    # The API.

    @property
    def connect(self) -> Any:
        """A boto3 client of the service, the same in all tests."""
        return self._running.connect

    @property
    def client_options(self) -> dict[str, str]:
        """What `boto3.client("connect", …)` takes to find the service."""
        return self._running.client_options

    @property
    def url(self) -> str:
        return f"http://{self._running.http}"

    @property
    def smtp(self) -> tuple[str, int]:
        """Where SMTP listens: host and port."""
        host, _, port = self._running.smtp.rpartition(":")
        return host, int(port)

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which AWS SDKs and the AWS CLI find the service, and INSTANCE_ID."""
        options = self._running.client_options
        return {
            "AWS_ENDPOINT_URL_CONNECT": options["endpoint_url"],
            "AWS_ACCESS_KEY_ID": options["aws_access_key_id"],
            "AWS_SECRET_ACCESS_KEY": options["aws_secret_access_key"],
            "AWS_DEFAULT_REGION": options["region_name"],
            "AWS_REGION": options["region_name"],
            "INSTANCE_ID": self.instance_id,
        }

    # Addresses.

    def address(self, name: str) -> str:
        """An address of this test alone, the same each time it is asked for; nobody has published it yet."""
        return f"{name}@{self._domain}"

    def publish(self, name: str, *, alias_of: str | None = None, **members: Any) -> Published:
        """Create an address, `name` or with an @ the whole of it, and associate it as an alias if told of whom.

        `members` go to CreateEmailAddress: Tags, DisplayName, Description. Raises what boto3 raises.
        """
        text = name if "@" in name else self.address(name)
        made = self.connect.create_email_address(InstanceId=self.instance_id, EmailAddress=text, **members)
        published = Published.make(text, address_id=made["EmailAddressId"], arn=made["EmailAddressArn"])
        if alias_of is not None:
            self.connect.associate_email_address_alias(
                InstanceId=self.instance_id,
                EmailAddressId=self._id_of(alias_of),
                AliasConfiguration={"EmailAddressId": published.id},
            )
        return published

    def _id_of(self, address: str) -> str:
        from readdress.testing import inboxes

        if isinstance(address, Published):
            return address.id
        found = self._running.look(lambda tx: inboxes.find_address(tx, address))
        if found is None:
            raise LookupError(f"{address} is not published: publish it before its alias")
        return found

    # Mail.

    def send(
        self,
        message: EmailMessage | None = None,
        *,
        to: str | Sequence[str] | None = None,
        sender: str | None = None,
        subject: str = "",
        body: str = "",
    ) -> dict[str, tuple[int, bytes]]:
        """Send a mail by SMTP: a message as it is, or one of these parts. Once it returns, the mail is in the inboxes.

        `to` and `sender` are the envelope's as well; without them a message's own header says whom it is for. Raises
        what smtplib raises, and gives what smtplib gives: the recipients that were refused beside others that were not.
        """
        import smtplib

        if message is None:
            if to is None:
                raise TypeError("say whom the mail is for: to=…, or a message with a To field")
            message = _compose(to, sender=sender or SENDER, subject=subject, body=body)
        host, port = self.smtp
        with smtplib.SMTP(host, port, local_hostname="client.test", timeout=SMTP_TIMEOUT_S) as smtp:
            try:
                return smtp.send_message(message, from_addr=sender, to_addrs=to)
            except smtplib.SMTPRecipientsRefused as refused:
                if any(code == 550 for code, _ in refused.recipients.values()):
                    refused.add_note("nobody has published it, or it takes no mail: see readdress.publish")
                raise

    def inbox(self, address: str) -> list[Message]:
        """The messages in an address's inbox, the oldest first. Raises MailMissing if there is no such address."""
        from readdress.testing import inboxes

        return inboxes.read(self._running, self.instance_id, address)

    def wait_for(
        self,
        address: str,
        count: int = 1,
        *,
        timeout: float = TIMEOUT_S,
        matching: Callable[[Message], bool] = lambda _: True,
    ) -> list[Message]:
        """The messages in the inbox that match, the oldest first, as soon as there are `count` of them.

        Raises MailMissing after `timeout` seconds, with what is in the inbox and where a mail would go now.
        """
        from readdress.testing import inboxes

        return inboxes.wait_for(
            self._running, self.instance_id, address, count=count, timeout_s=timeout, matching=matching
        )


def _compose(to: str | Sequence[str], *, sender: str, subject: str, body: str) -> EmailMessage:
    from email.message import EmailMessage
    from email.utils import formatdate, make_msgid

    message = EmailMessage()
    message["From"] = sender
    message["To"] = to if isinstance(to, str) else ", ".join(to)
    message["Subject"] = subject
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid(domain="client.test")
    message.set_content(body)
    return message
