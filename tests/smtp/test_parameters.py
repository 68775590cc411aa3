"""The parameters of MAIL and RCPT that ask about notices: what RFC 3461 §4 allows is kept, and nothing else is."""

import pytest

from readdress.smtp.envelope import Envelope, Recipient
from readdress.smtp.parameters import read_mail, read_rcpt
from readdress.smtp.reply import Reply


def mail(parameters: str, *, is_extended: bool = True) -> Envelope | Reply:
    return read_mail(f"FROM:<a@example.com> {parameters}", is_extended=is_extended, message_bytes_max=1_000)


def rcpt(parameters: str, *, smtputf8: bool = False, is_extended: bool = True) -> Recipient | Reply:
    return read_rcpt(f"TO:<b@example.com> {parameters}", is_extended=is_extended, smtputf8=smtputf8)


def code_of(read: object) -> str:
    assert isinstance(read, Reply), read
    return f"{read.code} {read.enhanced}"


@pytest.mark.parametrize(
    ("parameters", "ret", "envelope_id"),
    [
        ("", "", ""),
        ("RET=FULL", "FULL", ""),
        ("ret=hdrs envid=QQ314159", "HDRS", "QQ314159"),
        ("ENVID=" + "x" * 100, "", "x" * 100),
        ("ENVID=!*,<>~+2B+3D+20+09", "", "!*,<>~+2B+3D+20+09"),
    ],
)
def test_what_mail_asks_is_kept(parameters: str, ret: str, envelope_id: str) -> None:
    read = mail(parameters)
    assert isinstance(read, Envelope)
    assert (read.ret, read.envelope_id) == (ret, envelope_id)


@pytest.mark.parametrize(
    "parameters",
    [
        "RET=",
        "RET",
        "RET=BODY",
        "RET=FULL RET=FULL",
        "ENVID",
        "ENVID=",
        "ENVID=" + "x" * 101,
        "ENVID=a=b",
        "ENVID=a+",
        "ENVID=a+2",
        "ENVID=a+2b",  # §4: capitals
        "ENVID=a+0D+0A",  # §4.4: printable once decoded, so that no notice gets another line
        "ENVID=a+7F",
        "ENVID=a+E9",
        "ENVID=é",
    ],
)
def test_what_mail_may_not_ask_is_refused(parameters: str) -> None:
    assert code_of(mail(parameters)) == "501 5.5.4"


@pytest.mark.parametrize(
    ("parameters", "notify", "original"),
    [
        ("", "", ""),
        ("NOTIFY=NEVER", "NEVER", ""),
        ("NOTIFY=success,Failure,DELAY", "SUCCESS,FAILURE,DELAY", ""),
        ("NOTIFY=DELAY,DELAY", "DELAY", ""),
        ("ORCPT=rfc822;Bob+2Bx@Example.COM", "", "rfc822;Bob+2Bx@Example.COM"),
        ("ORCPT=x400;/C+3Dus/", "", "x400;/C+3Dus/"),
        ("ORCPT=rfc822;" + "x" * 493, "", "rfc822;" + "x" * 493),
        (r"ORCPT=utf-8;\x{438}van@example.com", "", r"utf-8;\x{438}van@example.com"),  # RFC 6533 §3
    ],
)
def test_what_rcpt_asks_is_kept(parameters: str, notify: str, original: str) -> None:
    read = rcpt(parameters)
    assert isinstance(read, Recipient)
    assert (read.notify, read.original) == (notify, original)


@pytest.mark.parametrize(
    "parameters",
    [
        "NOTIFY",
        "NOTIFY=",
        "NOTIFY=NEVER,SUCCESS",  # §4.1: NEVER alone
        "NOTIFY=SUCCESS,",
        "NOTIFY=SUCCESS;FAILURE",
        "NOTIFY=SOMETIMES",
        "ORCPT",
        "ORCPT=",
        "ORCPT=bob@example.com",
        "ORCPT=rfc822;",
        "ORCPT=;bob@example.com",
        "ORCPT=rfc 822;bob",
        "ORCPT=rfc822;bob+",
        "ORCPT=rfc822;bob+0A",
        "ORCPT=rfc822;" + "x" * 494,
        "ORCPT=rfc822;иван@example.com",
        "ORCPT=utf-8;иван@example.com",  # RFC 6533 §3: only with SMTPUTF8
        r"ORCPT=utf-8;\x{zz}@example.com",
    ],
)
def test_what_rcpt_may_not_ask_is_refused(parameters: str) -> None:
    assert code_of(rcpt(parameters)) == "501 5.5.4"


def test_an_original_recipient_in_unicode_needs_smtputf8() -> None:
    read = rcpt("ORCPT=utf-8;иван@пример.рф", smtputf8=True)
    assert isinstance(read, Recipient)
    assert read.original == "utf-8;иван@пример.рф"


@pytest.mark.parametrize("parameters", ["RET=FULL", "ENVID=x", "SIZE=1", "BODY=BINARYMIME"])
def test_what_was_not_offered_is_unknown(parameters: str) -> None:
    assert code_of(mail(parameters, is_extended=False)) == "555 5.5.4"


@pytest.mark.parametrize("parameters", ["NOTIFY=NEVER", "ORCPT=rfc822;b@example.com"])
def test_what_was_not_offered_is_unknown_of_recipients_too(parameters: str) -> None:
    assert code_of(rcpt(parameters, is_extended=False)) == "555 5.5.4"
