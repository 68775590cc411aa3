"""Delivery status notices taken apart: by Python's email package, and by the boundary where that knows no better."""

from dataclasses import dataclass
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default


@dataclass(frozen=True)
class ReadNotice:
    """`report` is its blocks of fields (RFC 3464 §2.1.1): that of the message, then one for each recipient."""

    mail: EmailMessage
    text: str
    report_type: str
    report: list[list[tuple[str, str]]]
    returned_type: str
    returned: bytes

    def field(self, name: str) -> str:
        """Of the only recipient."""
        (_, recipient) = self.report
        return dict(recipient)[name]


def read_notice(notice: bytes) -> ReadNotice:
    """Checks what every notice has to be (RFC 6522 §3, RFC 3464 §2), and gives its parts."""
    mail = message_from_bytes(notice, EmailMessage, policy=default)
    assert isinstance(mail, EmailMessage)
    assert not mail.defects
    assert mail.get_content_type() == "multipart/report"
    assert mail.get_param("report-type") == "delivery-status"
    assert mail["Auto-Submitted"] == "auto-replied"  # RFC 3834 §5
    assert mail["MIME-Version"] == "1.0"
    assert set(mail.keys()) == {
        *("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type"),
    }
    assert len(mail.keys()) == 8
    assert b"\n" not in notice.replace(b"\r\n", b"")
    assert b"\r" not in notice.replace(b"\r\n", b"")
    first, *parts, last = (b"\r\n" + notice).split(f"\r\n--{mail.get_boundary()}".encode())
    assert first.endswith(b"\r\n")
    assert last == b"--\r\n"
    heads, bodies = zip(*(part.removeprefix(b"\r\n").split(b"\r\n\r\n", 1) for part in parts), strict=True)
    types = [message_from_bytes(head + b"\r\n\r\n").get_content_type() for head in heads]
    for head, body in zip(heads, bodies, strict=True):
        encoding = message_from_bytes(head + b"\r\n\r\n")["Content-Transfer-Encoding"]
        assert encoding == ("7bit" if body.isascii() else "8bit")  # RFC 2045 §6.2
    assert [part.get_content_type() for part in mail.iter_parts()] == types
    assert types[0] == "text/plain"
    return ReadNotice(mail, bodies[0].decode(), types[1], _blocks(bodies[1]), types[2], bodies[2])


def _blocks(report: bytes) -> list[list[tuple[str, str]]]:
    blocks: list[list[tuple[str, str]]] = [[]]
    for line in report.decode().removesuffix("\r\n").split("\r\n"):
        if line:
            name, colon, value = line.partition(": ")
            assert colon, line
            blocks[-1].append((name, value))
        else:
            blocks.append([])
    return blocks
