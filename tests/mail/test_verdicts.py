"""The checks of the sender in the running program: their verdicts in the field on top and in the API, at every door."""

from collections.abc import Iterator

import pytest

from harness import checked_mail
from harness.checked_mail import (
    CLIENT,
    EHLO,
    STRANGER,
    ZONE,
    connect,
    mail_of,
    publish,
    read,
    results_fields,
    results_of,
    send,
)
from harness.dns_zone import DnsServer
from harness.process import ServiceProcess
from harness.signed_mail import SELECTOR, ed25519_key, pem, rsa_key, sign
from harness.smtp_client import SmtpClient, accepted_id, stuff

MEBIBYTE = 1_048_576


@pytest.fixture(scope="module")
def dns() -> Iterator[DnsServer]:
    with DnsServer(ZONE) as server:
        yield server


@pytest.fixture(scope="module")
def process(dns: DnsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    started = checked_mail.start(tmp_path_factory.mktemp("verdicts"), dns)
    yield started
    started.stop()


@pytest.fixture(scope="module")
def recipient(process: ServiceProcess) -> str:
    return publish(process)[1]


@pytest.mark.parametrize(
    ("domain", "source", "result"),
    [
        ("reject.example", CLIENT, "pass"),
        ("reject.example", STRANGER, "fail"),
        ("six.example", "2001:db8::1", "pass"),
        ("six.example", "2001:db8::2", "fail"),
        ("soft.example", STRANGER, "softfail"),
        ("neutral.example", STRANGER, "neutral"),
        ("plain.example", CLIENT, "none"),
        ("nowhere.example", CLIENT, "none"),
        ("broken.example", CLIENT, "permerror"),
        ("trouble.example", CLIENT, "temperror"),
        ("reject.example", "10.1.2.3", "none"),  # a hop of our own, behind which nobody is known
        ("reject.example", None, "none"),
    ],
)
def test_spf_of_the_envelope_sender(
    process: ServiceProcess, recipient: str, domain: str, source: str | None, result: str
) -> None:
    # RFC 7208 §2.6; RFC 8601 §2.7.2
    judged = send(process, recipient, mail_of(f"a@{domain}"), sender=f"a@{domain}", source=source)
    assert judged.shown("Spf") == result
    assert results_of(judged.raw)["spf"] == [result]
    assert judged.verdicts["Spf"]["Domain"] == domain
    assert judged.verdicts["Spf"]["Identity"] == "mailfrom"
    assert f"spf={result}" in results_fields(judged.raw)[0]
    assert f"smtp.mailfrom=a@{domain}" in results_fields(judged.raw)[0]


@pytest.mark.parametrize(("source", "result"), [(CLIENT, "pass"), (STRANGER, "fail")])
def test_the_null_sender_is_checked_by_its_ehlo(
    process: ServiceProcess, recipient: str, source: str, result: str
) -> None:
    # RFC 7208 §2.4
    judged = send(process, recipient, mail_of("a@reject.example"), sender="", source=source)
    assert (judged.shown("Spf"), judged.verdicts["Spf"]["Identity"]) == (result, "helo")
    assert f"spf={result} smtp.helo={EHLO}" in results_fields(judged.raw)[0]


def signed(domain: str, *, content: bytes | None = None) -> bytes:
    return sign(content or mail_of(f"a@{domain}"), domain=domain)


DKIM = {
    "good": (signed("reject.example"), "pass"),
    "good, of Ed25519": (sign(mail_of("a@ed.example"), ed25519_key(), "ed.example"), "pass"),
    "two": (signed("reject.example", content=signed("none.example")), "pass pass"),
    "another body": (signed("reject.example").replace(b"hello", b"hallo"), "fail"),
    "another subject": (signed("reject.example").replace(b"Subject: v", b"Subject: w"), "fail"),
    "no key": (signed("plain.example"), "permerror"),
    "trouble with its key": (signed("trouble.example"), "temperror"),
    "none": (mail_of("a@reject.example"), "none"),
}


@pytest.mark.parametrize(("content", "result"), DKIM.values(), ids=DKIM)
def test_dkim(process: ServiceProcess, recipient: str, content: bytes, result: str) -> None:
    # RFC 6376 §6, RFC 8601 §2.7.1
    judged = send(process, recipient, content, sender="a@none.example")
    assert judged.shown("Dkim") == result
    assert results_of(judged.raw)["dkim"] == result.split()
    assert judged.raw.endswith(content)


@pytest.mark.parametrize("policy", ["none", "quarantine", "reject"])
@pytest.mark.parametrize(
    ("source", "sender", "is_signed", "result", "aligned"),
    [
        (CLIENT, "a@{}.example", True, "pass", ["spf", "dkim"]),
        (CLIENT, "a@{}.example", False, "pass", ["spf"]),
        (STRANGER, "a@{}.example", True, "pass", ["dkim"]),
        (STRANGER, "a@{}.example", False, "fail", []),
        (CLIENT, "a@soft.example", False, "fail", []),  # SPF is good, of another domain
    ],
)
def test_dmarc_by_policy(
    process: ServiceProcess,
    recipient: str,
    policy: str,
    source: str,
    sender: str,
    is_signed: bool,
    result: str,
    aligned: list[str],
) -> None:
    # RFC 9989 §5.3
    domain = f"{policy}.example"
    content = signed(domain) if is_signed else mail_of(f"a@{domain}")
    judged = send(process, recipient, content, sender=sender.format(policy), source=source)
    dmarc = judged.verdicts["Dmarc"]
    assert (dmarc["Result"], dmarc["Policy"], dmarc["PolicyDomain"]) == (result, policy, domain)
    assert dmarc["Aligned"] == aligned
    assert results_of(judged.raw)["dmarc"] == [result]
    assert f"header.from={domain} policy.dmarc={policy}" in results_fields(judged.raw)[0]


@pytest.mark.parametrize(
    ("top", "author", "result"),
    [
        (b"", "a@plain.example", "none"),
        (b"", "a@trouble.example", "temperror"),
        (b"From: b@plain.example\r\n", "a@reject.example", "permerror"),
        (b"", "a@reject.example>, <b@plain.example", "permerror"),
    ],
    ids=["no policy", "trouble", "two From fields", "two domains in From"],
)
def test_dmarc_without_a_policy_to_ask_for(
    process: ServiceProcess, recipient: str, top: bytes, author: str, result: str
) -> None:
    # RFC 9989 §5.3.1, §5.3.6
    judged = send(process, recipient, mail_of(author, top=top), sender="a@plain.example", source=STRANGER)
    assert (judged.shown("Dmarc"), results_of(judged.raw)["dmarc"]) == (result, [result])


def arc_sealed(content: bytes) -> bytes:
    """By dkimpy, as a hop that has found the mail to be good."""
    import dkim

    given = b"Authentication-Results: hop.example; arc=none; spf=pass smtp.mailfrom=a@reject.example\r\n" + content
    fields = dkim.arc_sign(given, SELECTOR.encode(), b"none.example", pem(rsa_key()), b"hop.example")
    return b"".join(fields) + given


def test_arc(process: ServiceProcess, recipient: str) -> None:
    # RFC 8617 §5.2
    sealed = arc_sealed(mail_of("a@reject.example"))
    for content, result in (
        (sealed, "pass"),
        (sealed.replace(b"hello", b"hallo"), "fail"),
        (mail_of("a@reject.example"), "none"),
    ):
        judged = send(process, recipient, content, sender="a@reject.example", source=STRANGER)
        assert (judged.shown("Arc"), results_of(judged.raw)["arc"]) == (result, [result])
    assert send(process, recipient, sealed, sender="a@reject.example").verdicts["Arc"]["Sets"] == 1


def test_the_api_shows_it_all_in_one_form(process: ServiceProcess, recipient: str) -> None:
    judged = send(process, recipient, signed("reject.example"), sender="a@reject.example")
    verdicts = judged.verdicts
    assert set(verdicts) == {"Spf", "Dkim", "Arc", "Dmarc"}
    assert verdicts["Spf"] == {
        "Result": "pass",
        "Identity": "mailfrom",
        "Sender": "a@reject.example",
        "Domain": "reject.example",
        "Reason": "",
    }
    (dkim,) = verdicts["Dkim"]
    assert (dkim["Domain"], dkim["Selector"], dkim["Algorithm"]) == ("reject.example", SELECTOR, "rsa-sha256")
    assert verdicts["Dmarc"]["Domain"] == "reject.example"


# Large messages: staged in parts, and read again for the checks.


@pytest.mark.parametrize("size_bytes", [300_000, 2 * MEBIBYTE, 25 * MEBIBYTE])
def test_a_large_message_is_checked_whole(process: ServiceProcess, recipient: str, size_bytes: int) -> None:
    line = b"." + b"x" * 998 + b"\r\n"
    body = line * (size_bytes // len(line)) + b"the end\r\n"
    forged = b"Authentication-Results: mx.example.org; dmarc=pass\r\n"
    content = sign(mail_of("a@reject.example", body=body), domain="reject.example", canonicalize=(b"simple", b"simple"))
    good = send(process, recipient, forged + content, sender="a@reject.example", source=STRANGER)
    assert (good.shown("Dkim"), good.shown("Dmarc")) == ("pass", "pass")
    assert good.raw.endswith(content)
    assert len(results_fields(good.raw)) == 1
    changed = content.removesuffix(b"end\r\n") + b"END\r\n"
    assert send(process, recipient, changed, sender="a@reject.example", source=STRANGER).shown("Dkim") == "fail"


# The other doors, and the other ways to send.


def test_lmtp_has_the_same_checks(process: ServiceProcess, recipient: str) -> None:
    with connect(process.lmtp, source=STRANGER, hello=f"LHLO {EHLO}") as client:
        message_id = accepted_id(client.mail("a@reject.example", recipient, content=mail_of("a@reject.example")))
    assert read(process, message_id).shown("Spf") == "fail"


def test_chunks_have_the_same_checks_and_no_cut_hides_a_forged_field(process: ServiceProcess, recipient: str) -> None:
    forged = b"Authentication-Results: mx.example.org; dmarc=pass\r\n"
    content = forged + signed("reject.example")
    with connect(process.smtp) as client:
        for cut in (1, 20, 30, len(forged) - 1):
            client.say("MAIL FROM:<a@reject.example>")
            client.say(f"RCPT TO:<{recipient}>")
            client.send(b"BDAT %d\r\n" % cut + content[:cut])
            client.read_reply()
            client.send(b"BDAT %d LAST\r\n" % (len(content) - cut) + content[cut:])
            judged = read(process, accepted_id(client.read_reply()))
            assert judged.shown("Dkim") == "pass"
            assert len(results_fields(judged.raw)) == 1


def test_a_header_where_fields_could_hide_is_refused(process: ServiceProcess, recipient: str) -> None:
    # RFC 5322 §2.2: BINARYMIME (RFC 3030 §3) is for bodies
    hidden = b"Authentication-Results: mx.example.org; dmarc=pass\r\n"
    with connect(process.smtp) as client:
        for end, reply in ((b"\n", "550 5.5.2 "), (b"\r", "550 5.5.2 "), (b"\r\n", "250 2.0.0 ")):
            content = b"X-Odd: x" + end + hidden + mail_of("a@reject.example", body=b"\n\r\0binary")
            client.say("MAIL FROM:<a@reject.example> BODY=BINARYMIME")
            client.say(f"RCPT TO:<{recipient}>")
            client.send(b"BDAT %d LAST\r\n" % len(content) + content)
            assert client.read_reply().startswith(reply)


def test_mails_of_one_session_have_verdicts_of_their_own(process: ServiceProcess, recipient: str) -> None:
    mails = [("a@reject.example", signed("reject.example")), ("a@plain.example", mail_of("a@plain.example"))] * 5
    with connect(process.smtp) as client:
        ids = [accepted_id(client.mail(sender, recipient, content=content)) for sender, content in mails]
    shown = [(judged.shown("Spf"), judged.shown("Dkim")) for judged in (read(process, each) for each in ids)]
    assert shown == [("pass", "pass"), ("none", "none")] * 5


@pytest.mark.parametrize("setting", [{}, {"READDRESS_SENDER_CHECKS": "off"}])
def test_in_development_nothing_is_checked_unless_asked_for(
    dns: DnsServer, tmp_path_factory: pytest.TempPathFactory, setting: dict[str, str]
) -> None:
    asked = len(dns.asked)
    environment = {"READDRESS_RESOLVER": dns.address, "READDRESS_HOSTNAME": checked_mail.HOSTNAME} | setting
    process = ServiceProcess(tmp_path_factory.mktemp("unchecked"), environment=environment)
    try:
        _, text = publish(process)
        content = b"Authentication-Results: mx.example.org; dmarc=pass\r\n" + signed("reject.example")
        with SmtpClient(process.smtp_address) as client:
            client.say("EHLO x.example")
            assert client.begin("a@reject.example", text).startswith("354")
            client.send(stuff(content))
            judged = read(process, accepted_id(client.read_reply()))
    finally:
        process.stop()
    assert (judged.verdicts, results_fields(judged.raw)) == ({}, [])  # a forged field goes all the same (RFC 8601 §5)
    assert len(dns.asked) == asked
