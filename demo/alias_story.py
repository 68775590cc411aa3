"""The story of an alias, with the real boto3 and real SMTP: who gets which mail, before and after each change."""

import smtplib
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from harness.http_client import HttpClient
from harness.process import DEV_INSTANCE, ServiceProcess

SUPPORT, HELP = "support@example.com", "help@example.com"


class Story:
    """One running service, two addresses, and a table that grows with every step."""

    def __init__(self, service: ServiceProcess) -> None:
        self.service = service
        self.connect = service.connect()
        self.http = HttpClient(service.http_address)
        self.table = Table("step", "what boto3 or SMTP said", f"inbox of {SUPPORT}", f"inbox of {HELP}")
        self.support_id = self._create(SUPPORT)
        self.help_id = self._create(HELP)

    def tell(self) -> None:
        self._send("1 mail to help@", "before any alias")
        self._change("2 associate: help@ is an alias of support@", self.connect.associate_email_address_alias)
        self._send("3 mail to help@", "while associated")
        self._change("4 disassociate", self.connect.disassociate_email_address_alias)
        self._send("5 mail to help@", "after disassociation")
        self._change("6 associate again, at once", self.connect.associate_email_address_alias)
        self._send("7 mail to help@", "associated again")

    def _create(self, address: str) -> str:
        made = self.connect.create_email_address(InstanceId=DEV_INSTANCE, EmailAddress=address)
        return str(made["EmailAddressId"])

    def _change(self, step: str, operation: Any) -> None:
        answer = operation(
            InstanceId=DEV_INSTANCE,
            EmailAddressId=self.support_id,
            AliasConfiguration={"EmailAddressId": self.help_id},
        )
        self._row(step, f"HTTP {answer['ResponseMetadata']['HTTPStatusCode']}")

    def _send(self, step: str, subject: str) -> None:
        with smtplib.SMTP(*self.service.smtp_address) as smtp:
            smtp.ehlo()
            smtp.mail("customer@example.org")
            smtp.rcpt(HELP)
            code, text = smtp.data(f"From: customer@example.org\r\nTo: {HELP}\r\nSubject: {subject}\r\n\r\nHello.\r\n")
        self._row(step, f"{code} {text.decode()[:28]}…")

    def _row(self, step: str, said: str) -> None:
        self.table.add_row(step, said, self._inbox(self.support_id), self._inbox(self.help_id), end_section=True)

    def _inbox(self, address_id: str) -> str:
        messages = reversed(self.http.inbox(DEV_INSTANCE, address_id))
        return "\n".join(f"{message['Subject']} ({message['Reasons'][0]['Reason']})" for message in messages)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        service = ServiceProcess(Path(folder))
        try:
            story = Story(service)
            story.tell()
            story.http.close()
            Console(width=140 if not sys.stdout.isatty() else None).print(story.table)
        finally:
            service.stop()


if __name__ == "__main__":
    main()
