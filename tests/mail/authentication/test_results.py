"""The Authentication-Results field: what we write reads back and stays in its place; what claims to be ours goes."""

import re

import authres
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from readdress.mail.authentication.results import strip_results
from readdress.mail.authentication.verdicts import ArcVerdict, DkimVerdict, DmarcVerdict, SpfVerdict, Verdicts

OURS = "mx.example.org"


def verdicts(
    *, sender: str = "a@example.com", identity: str = "mailfrom", domain: str = "example.com", reason: str = ""
) -> Verdicts:
    return Verdicts(
        spf=SpfVerdict(result="pass", identity=identity, sender=sender, domain=domain, reason=reason),
        dkim=(
            DkimVerdict(
                result="fail",
                domain=domain,
                selector=domain,
                algorithm="rsa-sha256",
                signature="dGhpcyBp",
                reason=reason,
            ),
            DkimVerdict(
                result="pass", domain="example.net", selector="s1", algorithm="ed25519-sha256", signature="abc/+="
            ),
        ),
        arc=ArcVerdict(result="none"),
        dmarc=DmarcVerdict(
            result="fail", domain=domain, policy="reject", policy_domain=domain, aligned=("spf",), reason=reason
        ),
    )


def test_the_field_is_written_so() -> None:
    # RFC 8601 §2.2, and the registered properties of §2.7, RFC 6008, RFC 9989 §9.1
    assert verdicts(reason="why not").results_field(OURS) == (
        "Authentication-Results: mx.example.org;\r\n"
        '\tspf=pass reason="why not" smtp.mailfrom=a@example.com;\r\n'
        '\tdkim=fail reason="why not" header.d=example.com header.s=example.com\r\n'
        "\t header.a=rsa-sha256 header.b=dGhpcyBp;\r\n"
        "\tdkim=pass header.d=example.net header.s=s1 header.a=ed25519-sha256\r\n"
        '\t header.b="abc/+=";\r\n'
        '\tdmarc=fail reason="why not" header.from=example.com policy.dmarc=reject;\r\n'
        "\tarc=none\r\n"
    )


def test_verdicts_are_json() -> None:
    made = verdicts(reason="größe")
    assert msgspec.json.decode(msgspec.json.encode(made), type=Verdicts) == made


@pytest.mark.parametrize(
    ("sender", "identity", "shown"),
    [
        ("a@example.com", "mailfrom", "smtp.mailfrom=a@example.com"),
        ("bounce+a=b.test@example.com", "mailfrom", 'smtp.mailfrom="bounce+a=b.test@example.com"'),
        ("a@bücher.example", "mailfrom", "smtp.mailfrom=a@xn--bcher-kva.example"),
        ("größe@bücher.example", "mailfrom", "smtp.mailfrom=xn--bcher-kva.example"),
        ('"a b"@example.com', "mailfrom", r'smtp.mailfrom="\"a b\"@example.com"'),
        ("mail.example.com", "helo", "smtp.helo=mail.example.com"),
        ("[192.0.2.1]", "helo", 'smtp.helo="[192.0.2.1]"'),
        ("a;b=c", "helo", 'smtp.helo="a;b=c"'),
        ("x\r\nEvil: yes", "helo", 'smtp.helo="x??Evil: yes"'),
        ('"', "helo", r'smtp.helo="\""'),
        ("\\", "helo", r'smtp.helo="\\"'),
    ],
)
def test_a_value_that_is_no_token_is_quoted(sender: str, identity: str, shown: str) -> None:
    # RFC 8601 §2.2: value is a token or a quoted string; §5, no UTF-8
    assert shown in verdicts(sender=sender, identity=identity).results_field(OURS)


@example(sender="größe@", domain="größe@", reason="", identity="helo")
@given(
    sender=st.text(max_size=400),
    domain=st.text(max_size=400),
    reason=st.text(max_size=400),
    identity=st.sampled_from(["mailfrom", "helo"]),
)
def test_nothing_that_a_sender_writes_leaves_its_place(sender: str, domain: str, reason: str, identity: str) -> None:
    made = verdicts(sender=sender, identity=identity, domain=domain, reason=reason)
    field = made.results_field(OURS)
    assert field.isascii()
    assert re.fullmatch(r"Authentication-Results: mx\.example\.org;(?:\r\n\t[\x20-\x7e]+)+\r\n", field)
    assert max(map(len, field.split("\r\n"))) <= 998  # RFC 5322 §2.1.1
    read = authres.AuthenticationResultsHeader.parse(field.replace("\r\n", ""))
    assert read.authserv_id == OURS
    assert [(one.method, one.result) for one in read.results] == [
        ("spf", "pass"),
        ("dkim", "fail"),
        ("dkim", "pass"),
        ("dmarc", "fail"),
        ("arc", "none"),
    ]
    (policy,) = [one.value for one in read.results[3].properties if one.type == "policy"] or ["reject"]
    assert policy == "reject"


FORGED = [
    b"Authentication-Results: mx.example.org; dkim=pass",
    b"authentication-results:mx.example.org;dkim=pass",
    b"AUTHENTICATION-RESULTS : MX.Example.ORG; none",
    b"Authentication-Results:\r\n mx.example.org;\r\n\tspf=pass\r\n \r\n dkim=pass",
    b"Authentication-Results: mx.example.org 1; none",  # RFC 8601 §2.2, with its version
    b"Authentication-Results: mx.example.org/1; none",
    b"Authentication-Results: mx.example.org",
    b'Authentication-Results: "mx.example.org"; none',
    b'Authentication-Results: "mx\\.example.org" 1; none',
    b"Authentication-Results: (a (nested \\) ) comment;) mx.example.org (more); none",
    b"Authentication-Results: (folded\r\n comment)\r\n\tmx.example.org; none",
]

OTHERS = [
    b"Authentication-Results: mx.example.net; dkim=pass",
    b"Authentication-Results: amx.example.org; none",
    b"Authentication-Results: mx.example.org.evil.test; none",
    b"Authentication-Results: (mx.example.org) other.test; none",
    b"Authentication-Results: other.test; none (mx.example.org)",
    b"Authentication-Results: ; mx.example.org",
    b"Authentication-Results:",
    b"Authentication-Results: (never closed mx.example.org",
    b'Authentication-Results: "never closed mx.example.org',
    b"Authentication-Results mx.example.org; none",
    b"X-Authentication-Results: mx.example.org; none",
    b"ARC-Authentication-Results: i=1; mx.example.org; none",
    b"Subject: x\r\n Authentication-Results: mx.example.org; none",
    b"Authentication-Results: m\xffx.example.org; none",
    b"\xff\x00",
    b"  continues nothing",
]


@pytest.mark.parametrize("line", FORGED)
def test_a_field_that_claims_to_be_ours_goes(line: bytes) -> None:
    # RFC 8601 §5
    before, after = b"Received: x\r\n\ty\r\n", b"\r\nSubject: z\r\n\r\nbody"
    assert strip_results(before + line + after, OURS) == before + after.removeprefix(b"\r\n")


@pytest.mark.parametrize("line", OTHERS)
def test_any_other_field_stays(line: bytes) -> None:
    header = b"Received: x\r\n" + line + b"\r\nSubject: z\r\n\r\n"
    assert strip_results(header, OURS) == header


def test_what_is_behind_the_header_stays() -> None:
    body = b"\r\n\r\nAuthentication-Results: mx.example.org; none\r\n"
    assert strip_results(FORGED[0] + b"\r\nSubject: x" + body, OURS) == b"Subject: x" + body


def test_our_name_beyond_ascii_is_one_name_in_all_its_forms() -> None:
    # RFC 8601 §2.5: an authserv-id is compared as a domain name is
    for name in ("bücher.example", "xn--bcher-kva.example", "BÜCHER.example"):
        line = f"Authentication-Results: {name}; none\r\n\r\n".encode()
        assert strip_results(line, "bücher.example") == b"\r\n"


LINES = st.lists(
    st.sampled_from([(line, False) for line in FORGED] + [(line, True) for line in OTHERS[:-1]]),
    max_size=8,
)


@given(lines=LINES)
def test_exactly_ours_go_from_any_header(lines: list[tuple[bytes, bool]]) -> None:
    def header(chosen: list[bytes]) -> bytes:
        return b"".join(line + b"\r\n" for line in chosen) + b"\r\nbody"

    kept = header([line for line, stays in lines if stays])
    assert strip_results(header([line for line, _ in lines]), OURS) == kept


@given(st.binary(max_size=300))
def test_other_bytes_are_never_touched(header: bytes) -> None:
    assert strip_results(header, OURS) == header
    assert strip_results(header + b"\r\n" + FORGED[0] + b"\r\n", "none.test") == header + b"\r\n" + FORGED[0] + b"\r\n"
