"""The grammar of SMTP commands against RFC 5321 §4.1.2, RFC 6531 §3.3 and the sizes of RFC 5321 §4.5.3.1."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from readdress.address import Address
from readdress.smtp import grammar

Parse = Callable[[str], tuple[grammar.Path, str] | None]

# As they stand in RFC 5321 (§2.3.11, §3.3, §4.1.1.3, appendix D and F.2), RFC 6531 and RFC 5322 §3.4.1.
PATHS = [
    ("<Smith@bar.com>", "Smith", "bar.com"),
    ("<Jones@foo.com>", "Jones", "foo.com"),
    ("<@hosta.int,@jkl.org:userc@d.bar.org>", "userc", "d.bar.org"),
    ("<@bar.com:Jones@foo.com>", "Jones", "foo.com"),
    ("<user+detail@sub.example.com>", "user+detail", "sub.example.com"),
    ("<O'Reilly/dept=1@example.com>", "O'Reilly/dept=1", "example.com"),
    ('<"Joe Smith"@example.com>', "Joe Smith", "example.com"),
    ('<"Joe@home>"@example.com>', "Joe@home>", "example.com"),
    (r'<"a\"b\\c"@example.com>', r'a"b\c', "example.com"),
    ('<"plain"@example.com>', "plain", "example.com"),
    ("<user@[192.0.2.1]>", "user", "[192.0.2.1]"),
    ("<user@[IPv6:2001:db8::1]>", "user", "[IPv6:2001:db8::1]"),
    ("<user@localhost>", "user", "localhost"),
    ("<иван@пример.рф>", "иван", "пример.рф"),
    ("<θσερ@παράδειγμα.δοκιμή>", "θσερ", "παράδειγμα.δοκιμή"),
    ('<"в кавычках"@пример.рф>', "в кавычках", "пример.рф"),
    ("<user@xn--bcher-kva.example>", "user", "xn--bcher-kva.example"),
    # Not by the RFC's letter, but such addresses exist.
    ("<first..last@example.com>", "first..last", "example.com"),
    ("<.user.@example.com>", ".user.", "example.com"),
]

NO_PATHS = [
    "",
    "user@example.com",
    "<user@example.com",
    "user@example.com>",
    "<user>",
    "<@example.com>",
    "<user@>",
    "<us er@example.com>",
    "<user@@example.com>",
    "<user@exa mple.com>",
    "<user@-example.com>",
    "<user@example-.com>",
    "<user@example..com>",
    "<user@.example.com>",
    "<user@example.com.>",
    "<user@[192.0.2.1>",
    "<user@192.0.2.1]>",
    "<user@[]>",
    '<"unclosed@example.com>',
    '<"a"b@example.com>',
    '<a"b"@example.com>',
    '<"a\tb"@example.com>',
    "<a(comment)@example.com>",
    "<a,b@example.com>",
    "<a:b@example.com>",
    "<a;b@example.com>",
    "<a\\b@example.com>",
    "<@hosta.int userc@d.bar.org>",
    "<@hosta.int,userc@d.bar.org>",
    "<hosta.int:userc@d.bar.org>",
    "<user\x7f@example.com>",
    "<<user@example.com>>",
]


@pytest.mark.parametrize(("text", "local_part", "domain"), PATHS)
@pytest.mark.parametrize("parse", [grammar.parse_sender, grammar.parse_recipient])
def test_a_path_is_read_with_what_follows_it(parse: Parse, text: str, local_part: str, domain: str) -> None:
    parsed = parse(text + " SIZE=1")
    assert parsed is not None
    path, tail = parsed
    assert path.address == Address(local_part, domain)
    assert tail == " SIZE=1"
    # RFC 5321 §4.1.1.3, F.2: a source route is ignored.
    assert path.text == (text[1:-1].rpartition(":")[2] if text.startswith("<@") else text[1:-1])
    assert path.needs_smtputf8 is not text.isascii()


@pytest.mark.parametrize("text", NO_PATHS)
@pytest.mark.parametrize("parse", [grammar.parse_sender, grammar.parse_recipient])
def test_what_is_no_path_is_refused(parse: Parse, text: str) -> None:
    assert parse(text) is None


def test_the_null_sender_is_a_sender_and_no_recipient() -> None:
    # RFC 5321 §4.5.5
    assert grammar.parse_sender("<> BODY=8BITMIME") == (grammar.Path("", None), " BODY=8BITMIME")
    assert grammar.parse_recipient("<>") is None


@pytest.mark.parametrize("text", ["<postmaster>", "<Postmaster>", "<POSTMASTER>"])
def test_postmaster_needs_no_domain_in_any_letter_case(text: str) -> None:
    # RFC 5321 §4.1.1.3, §4.5.1
    assert grammar.parse_recipient(text) == (grammar.Path(text[1:-1], Address(text[1:-1], "")), "")
    assert grammar.parse_sender(text) is None


@pytest.mark.parametrize(
    ("mailbox", "is_read"),
    [
        ("a" * 64 + "@example.com", True),  # RFC 5321 §4.5.3.1.1: 64 octets
        ("a" * 65 + "@example.com", False),
        ("é" * 32 + "@example.com", True),  # octets, not characters
        ("é" * 32 + "a@example.com", False),
        ('"' + "a b" * 21 + 'c"@example.com', True),
        ('"' + "a b" * 22 + '"@example.com', False),
        ("a@" + ".".join(["d" * 61] * 4) + ".com", True),  # path: 256 octets with its brackets, §4.5.3.1.3
        ("ab@" + ".".join(["d" * 61] * 4) + ".com", True),
        ("abc@" + ".".join(["d" * 61] * 4) + ".com", False),
        ("a@" + "d." * 127 + "de", False),  # domain: 255 octets, §4.5.3.1.2
    ],
)
def test_sizes_are_those_of_rfc_5321(mailbox: str, is_read: bool) -> None:
    assert (grammar.parse_mailbox(mailbox) is not None) is is_read
    assert (grammar.parse_sender(f"<{mailbox}>") is not None) is is_read
    assert (grammar.parse_recipient(f"<{mailbox}>") is not None) is is_read


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("", {}),
        (" ", {}),
        (" SIZE=1000", {"SIZE": "1000"}),
        (" size=1000 Body=8BITMIME", {"SIZE": "1000", "BODY": "8BITMIME"}),
        ("  SIZE=1  SMTPUTF8 ", {"SIZE": "1", "SMTPUTF8": ""}),
        (" ENVID=QQ314159 RET=HDRS", {"ENVID": "QQ314159", "RET": "HDRS"}),  # RFC 3461 §10
        (" X-1=a:b/c", {"X-1": "a:b/c"}),
        (" ORCPT=utf-8;иван", {"ORCPT": "utf-8;иван"}),  # RFC 6531 §3.4
        ("SIZE=1", None),
        (" SIZE=", None),
        (" =1", None),
        (" -X=1", None),
        (" SIZE=1=2", None),
        (" SI_ZE=1", None),
        (" SIZE=1 size=2", None),
        (" SIZE=1\tBODY=7BIT", None),
        (" SIZE=1\x0bBODY=7BIT", None),
        (" SIZE=1\x7f", None),
    ],
)
def test_parameters_are_keywords_with_values(text: str, parameters: dict[str, str] | None) -> None:
    # RFC 5321 §4.1.2: esmtp-param, separated by spaces
    assert grammar.parse_parameters(text) == parameters


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("NOOP", ("NOOP", "")),
        ("noop", ("NOOP", "")),
        ("MaIl FrOm:<a@b.c>", ("MAIL", "FrOm:<a@b.c>")),
        ("RSET  ", ("RSET", "")),  # RFC 5321 §4.1.1: trailing white space is tolerated
        ("", ("", "")),
        ("VRFY some one", ("VRFY", "some one")),
    ],
)
def test_a_command_is_a_verb_in_any_letter_case_and_the_rest(line: str, command: tuple[str, str]) -> None:
    # RFC 5321 §2.4
    assert grammar.parse_command(line) == command


@pytest.mark.parametrize(
    "name", ["client.example", "localhost", "[192.0.2.1]", "[IPv6:2001:db8::1]", "host_1.example", "a" * 255]
)
def test_a_client_may_call_itself_by_a_domain_or_a_literal(name: str) -> None:
    # RFC 5321 §4.1.4
    assert grammar.is_ehlo_name(name)


@pytest.mark.parametrize("name", ["", "a b", "a\tb", "a\r\nX-Forged: 1", "<script>", "a(b)", "a;b", "[a", "a" * 256])
def test_a_client_cannot_name_itself_what_would_break_a_received_field(name: str) -> None:
    assert not grammar.is_ehlo_name(name)


@given(
    local_part=st.text("abcXYZ09 !\"#$\\@<>()[]:;,.'é漢", min_size=1, max_size=20),
    domain=st.from_regex(r"[a-z0-9]{1,10}(\.[a-z]{2,5}){1,3}", fullmatch=True),
)
def test_any_local_part_survives_its_quotes(local_part: str, domain: str) -> None:
    # RFC 5321 §4.1.2: a backslash makes the next character stand for itself
    quoted = "".join(f"\\{character}" if character in '"\\' else character for character in local_part)
    assert grammar.parse_mailbox(f'"{quoted}"@{domain}') == Address(local_part, domain)
