"""The client under TLS: what is verified when, what falls back to clear and what never does, and where passwords go."""

import asyncio
import base64
import ssl
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.certificates import write_certificate
from harness.outgoing import CONTENT, HOSTNAME, TIMEOUTS, local, outgoing
from harness.scripted_host import (
    BYE,
    ENVELOPE,
    GREETING,
    Hear,
    HearBytes,
    HearContent,
    Heard,
    Silence,
    StartTls,
    Step,
    ehlo,
    scripted_host,
    send_to,
)
from readdress.smtp.channel import Channel
from readdress.smtp.client import send
from readdress.smtp.conversation import Conversation, authenticate, client_context
from readdress.smtp.outgoing import Failure, SendResult, Target, TlsPolicy

TAKING: list[Step] = [*ENVELOPE, Hear("DATA"), "354 go", HearContent(), "250 2.0.0 ok", *BYE]
ASK_TLS: list[Step] = [GREETING, *ehlo("STARTTLS", "SIZE 1"), Hear("STARTTLS")]
DELIVERED = ("delivered", "2.0.0", "content")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_certificate(tmp_path_factory.mktemp("certificate"), serial_number=1)


@pytest.fixture(scope="module")
def context(files: tuple[Path, Path]) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(*files)
    return made


def run(*scripts: Sequence[Step], **members: Any) -> tuple[tuple[str, str, str], SendResult, list[Heard]]:
    target = {"host": "localhost", "addresses": ("127.0.0.1",)} | members
    result, heard = send_to(outgoing(), *scripts, **target)
    (one,) = result.recipients
    return (one.outcome.value, one.enhanced, one.stage), result, heard


def test_starttls_is_verified_and_the_offer_before_it_forgotten(
    files: tuple[Path, Path], context: ssl.SSLContext
) -> None:
    # RFC 3207 §4.2: SIZE 1 was said in clear
    script = [*ASK_TLS, "220 go", StartTls(context), *ehlo(), *TAKING]
    outcome, result, (heard,) = run(script, tls="require", ca_file=str(files[0]))
    assert outcome == DELIVERED
    assert result.tls == "TLSv1.3"
    assert heard.lines[:3] == ["EHLO client.example", "STARTTLS", "EHLO client.example"]
    assert heard.contents == [CONTENT]


def test_implicit_tls_begins_with_the_handshake(files: tuple[Path, Path], context: ssl.SSLContext) -> None:
    # RFC 8314 §3
    outcome, result, _ = run(
        [StartTls(context), GREETING, *ehlo("STARTTLS"), *TAKING], tls="implicit", ca_file=str(files[0])
    )
    assert outcome == DELIVERED
    assert result.tls == "TLSv1.3"


@pytest.mark.parametrize("members", [{}, {"host": "other.example"}], ids=["unknown authority", "another name"])
@pytest.mark.parametrize("policy", ["require", "implicit"])
def test_a_certificate_that_is_not_trusted_keeps_the_mail_here(
    files: tuple[Path, Path], context: ssl.SSLContext, policy: str, members: dict[str, str]
) -> None:
    begin: list[Step] = [*ASK_TLS, "220 go"] if policy == "require" else []
    authority = str(files[0]) if members else ""
    outcome, result, heard = run([*begin, StartTls(context), *TAKING], tls=policy, ca_file=authority, **members)
    assert outcome == ("temporary", "4.7.5", "tls")
    assert "its certificate is not trusted" in result.recipients[0].reply
    assert (len(heard), result.tls, heard[0].contents) == (1, None, [])


def test_without_verification_any_certificate_will_do(context: ssl.SSLContext) -> None:
    script = [*ASK_TLS, "220 go", StartTls(context), *ehlo(), *TAKING]
    outcome, result, _ = run(script, tls="require", verify=False, host="other.example")
    assert (outcome, result.tls) == (DELIVERED, "TLSv1.3")


def test_opportunistic_tls_asks_for_no_name(context: ssl.SSLContext) -> None:
    # RFC 7435 §3
    outcome, result, _ = run([*ASK_TLS, "220 go", StartTls(context), *ehlo(), *TAKING], tls="may", host="other.example")
    assert (outcome, result.tls) == (DELIVERED, "TLSv1.3")


@pytest.mark.parametrize(
    "script", [[GREETING, *ehlo(), *TAKING], [*ASK_TLS[:1], *ehlo("STARTTLS"), Hear("STARTTLS"), "454 no", *TAKING]]
)
def test_opportunistic_tls_goes_on_in_clear_where_tls_is_not_offered_or_refused(script: list[Step]) -> None:
    outcome, result, heard = run(script, tls="may")
    assert (outcome, result.tls, len(heard)) == (DELIVERED, None, 1)


def test_opportunistic_tls_comes_again_in_clear_when_the_handshake_fails() -> None:
    failing = [*ASK_TLS, "220 go", HearBytes(), b"\x15\x03\x01\x00\x02\x02\x28"]  # a fatal alert: handshake_failure
    outcome, result, heard = run(failing, [GREETING, *ehlo("STARTTLS"), *TAKING], tls="may")
    assert (outcome, result.tls, len(heard)) == (DELIVERED, None, 2)
    assert "STARTTLS" not in heard[1].lines


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ([GREETING, *ehlo(), *BYE], ("temporary", "4.7.4", "tls")),
        ([*ASK_TLS, "454 4.7.0 not now", *BYE], ("temporary", "4.7.0", "tls")),
        ([*ASK_TLS, "502 5.5.1 what?", *BYE], ("temporary", "4.5.1", "tls")),
        ([*ASK_TLS, "220 go"], ("temporary", "4.7.5", "tls")),
        ([*ASK_TLS, "220 go", HearBytes(), b"hello\r\n"], ("temporary", "4.7.5", "tls")),
    ],
)
def test_required_tls_never_falls_back(script: list[Step], expected: tuple[str, str, str]) -> None:
    outcome, result, heard = run(script, tls="require", verify=False)
    assert (outcome, result.tls, len(heard)) == (expected, None, 1)


@pytest.mark.parametrize("policy", ["may", "require"])
def test_a_reply_injected_behind_starttls_is_noticed(context: ssl.SSLContext, policy: str) -> None:
    """What came in clear would be taken for the host's replies under TLS."""
    injected = b"220 go\r\n250-localhost\r\n250 AUTH PLAIN\r\n"
    outcome, result, heard = run([*ASK_TLS, injected, StartTls(context), *ehlo(), *TAKING], tls=policy, verify=False)
    assert outcome == ("temporary", "4.7.5", "tls")
    assert "in clear" in result.recipients[0].reply
    assert len(heard) == 1


def test_a_handshake_that_hangs_has_an_end() -> None:
    async def converse() -> SendResult:
        async with scripted_host([Silence()]) as host:
            target = local(host.port, tls="implicit", verify=False)
            return await send(target, outgoing(), timeouts=replace(TIMEOUTS, command_s=0.2), hostname=HOSTNAME)

    (one,) = asyncio.run(converse()).recipients
    assert (one.enhanced, one.stage) == ("4.7.5", "tls")


@pytest.mark.parametrize("text", [None, "no certificate"])
def test_authorities_that_cannot_be_read_are_temporary(tmp_path: Path, text: str | None) -> None:
    if text:
        (tmp_path / "ca.pem").write_text(text)
    outcome, result, _ = run([*ASK_TLS, "220 go"], tls="require", ca_file=str(tmp_path / "ca.pem"))
    assert outcome == ("temporary", "4.7.5", "tls")
    assert result.recipients[0].reply == "the certificate authorities cannot be read"


def test_authorities_are_read_once_and_again_when_their_file_changes(files: tuple[Path, Path]) -> None:
    target = Target(host="localhost", tls="require", ca_file=str(files[0]))
    first = client_context(target)
    assert client_context(target) is first
    assert first.minimum_version is ssl.TLSVersion.TLSv1_2
    files[0].touch()
    assert client_context(target) is not first


def test_tls_1_1_is_refused(files: tuple[Path, Path]) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    old.load_cert_chain(*files)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    outcome, _, _ = run([*ASK_TLS, "220 go", StartTls(old)], tls="require", verify=False)
    assert outcome == ("temporary", "4.7.5", "tls")


# Credentials.

SECRET = {"username": "us\u00e9r", "password": "pass word"}
PLAIN = "AUTH PLAIN " + base64.b64encode("\0us\u00e9r\0pass word".encode()).decode()


def test_credentials_go_by_auth_plain_under_tls(context: ssl.SSLContext) -> None:
    # RFC 4954 §4, RFC 4616 §2
    script = [*ASK_TLS, "220 go", StartTls(context), *ehlo("AUTH LOGIN PLAIN"), Hear("AUTH"), "235 2.7.0 in", *TAKING]
    outcome, _, (heard,) = run(script, tls="require", verify=False, **SECRET)
    assert outcome == DELIVERED
    assert PLAIN in heard.lines


def test_auth_login_where_plain_is_not_offered() -> None:
    asked: list[Step] = [Hear("AUTH LOGIN"), "334 VXNlcm5hbWU6", Hear(""), "334 UGFzc3dvcmQ6", Hear(""), "235 in"]
    outcome, _, (heard,) = run([GREETING, *ehlo("AUTH LOGIN"), *asked, *TAKING], **SECRET)
    assert outcome == DELIVERED
    said = [base64.b64decode(line).decode() for line in heard.lines[2:4]]
    assert said == list(SECRET.values())


@pytest.mark.parametrize(
    ("keywords", "replies", "enhanced"),
    [
        ("AUTH PLAIN", ["535 5.7.8 wrong"], "4.7.8"),
        ("AUTH PLAIN", ["454 4.7.0 not now"], "4.7.0"),
        ("AUTH LOGIN", ["334 ", "535 5.7.8 wrong"], "4.7.8"),
        ("AUTH CRAM-MD5", [], "4.7.0"),
        ("SIZE", [], "4.7.0"),
    ],
)
def test_refused_credentials_are_temporary(keywords: str, replies: list[str], enhanced: str) -> None:
    asked: list[Step] = [step for reply in replies for step in (Hear(""), reply)]
    outcome, _, (heard,) = run([GREETING, *ehlo(keywords), *asked, *BYE], **SECRET)
    assert outcome == ("temporary", enhanced, "auth")
    assert heard.lines[-1] == "QUIT"


@pytest.mark.parametrize("reply", [b"250 in\r\n", b"334 more\r\n"])
def test_a_reply_to_auth_that_makes_no_sense_is_temporary(reply: bytes) -> None:
    outcome, _, _ = run([GREETING, *ehlo("AUTH PLAIN"), Hear("AUTH"), reply], **SECRET)
    assert outcome == ("temporary", "4.5.0", "auth")


@pytest.mark.parametrize(
    ("policy", "tls", "is_local", "said"),
    [
        ("none", None, False, "not sent without TLS"),
        ("may", None, False, "not sent without TLS"),
        ("may", "TLSv1.3", False, "not sent without TLS"),  # whoever is in between may have made that certificate
        ("require", "TLSv1.3", False, "offers neither"),
        ("implicit", "TLSv1.3", False, "offers neither"),
        ("none", None, True, "offers neither"),
    ],
)
def test_credentials_go_through_required_tls_or_to_this_machine_alone(
    policy: TlsPolicy, tls: str | None, is_local: bool, said: str
) -> None:
    async def authenticating() -> None:
        target = Target(host="mx.example", tls=policy, **SECRET)  # type: ignore[arg-type]
        conversation = Conversation(target, timeouts=TIMEOUTS, hostname=HOSTNAME)
        conversation.channel = Channel()
        conversation.channel.tls, conversation.channel.is_local = tls, is_local
        await authenticate(conversation)

    with pytest.raises(Failure, match=said) as raised:
        asyncio.run(authenticating())
    assert raised.value.enhanced == "4.7.0"
