"""Files of each format: what entries they give, and which of their lines are refused for what reason."""

import pytest

from harness.bulk_files import read
from readdress.bulk.entry import Entry, FormatError, Numbered
from readdress.bulk.formats import guess_format
from readdress.bulk.formats.lines import ROW_BYTES_MAX

REJECTED = {"readdress:accept": "reject"}


def entry(address: str, **members: object) -> Entry:
    return Entry(email_address=address, **members)  # type: ignore[arg-type]


def refused(entries: list[Numbered]) -> dict[int, str]:
    return {line: reason for line, reason in entries if isinstance(reason, str)}


def taken(entries: list[Numbered]) -> list[tuple[int, Entry]]:
    return [(line, found) for line, found in entries if isinstance(found, Entry)]


# Our own.


def test_json_lines_have_the_members_of_the_api() -> None:
    text = (
        '{"EmailAddress": "support@example.com", "DisplayName": "Support", "Tags": {"team": "a"}}\n'
        "\n"
        '{"EmailAddress": "help@example.com", "AliasOf": "support@example.com", "Description": "a\\nb"}'
    )
    assert read(text, "jsonl") == [
        (1, entry("support@example.com", display_name="Support", tags={"team": "a"})),
        (3, entry("help@example.com", alias_of="support@example.com", description="a\nb")),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("[]", "has to be an object"),
        ("{", "is no JSON"),
        ('{"EmailAddress": "a@b.example"} x', "is no JSON"),
        ('{"EmailAddress": "\udcff@b.example"}', "is no JSON"),
        ("[" * 100_000, "The request"),
        ('{"EmailAddress": "a@b.example", "Tags": {"x": ' + "[" * 100_000, "Tags"),
        ('{"DisplayName": "x"}', "EmailAddress: is required"),
        ('{"EmailAddress": "nobody"}', "EmailAddress: has a form"),
        ('{"EmailAddress": "a b@c.example"}', "EmailAddress: has a form"),
        ('{"EmailAddress": "' + "a" * 250 + '@b.example"}', "EmailAddress: has to have at most 255 characters"),
        ('{"EmailAddress": "a@b.example", "Descripton": "x"}', "unknown field `Descripton`"),
        ('{"EmailAddress": "a@b.example", "DisplayName": 7}', "DisplayName: has to be a string"),
        ('{"EmailAddress": "a@b.example", "DisplayName": "a\\u0000b"}', "DisplayName: has a form"),
        ('{"EmailAddress": "a@b.example", "Tags": {"aws:x": "y"}}', "Tags"),
        ('{"EmailAddress": "a@b.example", "Tags": {"": "y"}}', "Tags"),
        ('{"EmailAddress": "a@b.example", "Tags": {"x": null}}', "Tags"),
        ('{"EmailAddress": "a@b.example", "AliasOf": "b"}', "AliasOf: has a form"),
        ('{"EmailAddress": "a@b.example", "Description": "' + "x" * ROW_BYTES_MAX + '"}', "is longer than"),
    ],
)  # fmt: skip
def test_a_bad_json_line_is_refused_and_the_next_is_taken(line: str, reason: str) -> None:
    entries = read(line.encode("utf-8", "surrogateescape") + b'\n{"EmailAddress": "next@b.example"}\n', "jsonl")
    assert taken(entries) == [(2, entry("next@b.example"))]
    assert reason in refused(entries)[1]
    assert len(refused(entries)[1]) < 1_000


def test_csv_has_columns_in_any_order_and_rows_of_several_lines() -> None:
    text = (
        "\ufeffDescription,EmailAddress,Tags,AliasOf,DisplayName\r\n"
        '"one\ntwo, ""three""",help@example.com,"{""team"":""a""}",support@example.com,\r\n'
        ",support@example.com,,,Support\r\n"
    )
    assert read(text, "csv") == [
        (
            2,
            entry(
                "help@example.com",
                description='one\ntwo, "three"',
                alias_of="support@example.com",
                tags={"team": "a"},
            ),
        ),
        (4, entry("support@example.com", display_name="Support")),
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a@b.example,x,y", "has 3 cells where the header has 2"),
        ('"a@b.example"x,y', "is no CSV"),
        ("a@b.example,{x", "Tags: is no JSON"),
        ('a@b.example,"[""x""]"', "Tags: has to be an object"),
        (",", "EmailAddress: is required"),
    ],
)
def test_a_bad_csv_row_is_refused_and_the_next_is_taken(row: str, reason: str) -> None:
    entries = read(f"EmailAddress,Tags\n{row}\nnext@b.example,\n", "csv")
    assert taken(entries) == [(3, entry("next@b.example"))]
    assert reason in refused(entries)[2]


def test_a_quote_that_is_not_closed_costs_no_more_than_a_row_may_have() -> None:
    for letter in "xö":
        line = letter * 240 + "@b.example,\n"
        entries = read("EmailAddress,Tags\n" + 'a@b.example,"\n' + line * 2_000, "csv")
        assert refused(entries).keys() == {2}
        assert "Perhaps a quote is not closed" in refused(entries)[2]
        assert 1_400 < len(taken(entries)) < 1_500


def test_a_csv_row_that_is_not_utf_8_is_refused() -> None:
    entries = read(b"EmailAddress\n\xe4@b.example\nnext@b.example\n", "csv")
    assert "is not in UTF-8" in refused(entries)[2]
    assert taken(entries) == [(3, entry("next@b.example"))]


@pytest.mark.parametrize(
    ("header", "reason"),
    [("", "is missing"), ("Mail,Name\n", "no table that is known"), ("EmailAddress,Nane\n", "nane"),
     ("EmailAddress,Tags,tags\n", "twice")],
)  # fmt: skip
def test_a_header_that_is_not_known_ends_it(header: str, reason: str) -> None:
    with pytest.raises(FormatError, match=reason):
        read(header, "csv")


# Postfix.

VIRTUAL = """\
# The shop
postmaster@example.com  root@example.com
help@example.com        support@example.com

support@example.com     support@example.com   # is no comment here
info@example.com
# a comment between
    info@example.com,
    office@example.com
sales@example.com\ta@example.com, b@example.com
@example.com            support@example.com
example.com             anything
/^x/                    support@example.com
bob@example.com         bob
"""


def test_a_virtual_table() -> None:
    entries = read(VIRTUAL.replace("   # is no comment here", ""), "postfix")
    assert taken(entries) == [
        (2, entry("postmaster@example.com", alias_of="root@example.com")),
        (3, entry("help@example.com", alias_of="support@example.com")),
        (5, entry("support@example.com")),
        (6, entry("info@example.com", alias_of="office@example.com")),
    ]
    reasons = refused(entries)
    assert sorted(reasons) == [10, 11, 12, 13, 14]
    assert "2 targets" in reasons[10]
    assert "readdress:catch-all=true" in reasons[11]
    assert "no domain" in reasons[12]
    assert "pattern" in reasons[13]
    assert "bob has no domain" in reasons[14]


def test_the_addresses_of_a_virtual_table_alone() -> None:
    text = "sales@example.com a@example.com, b@example.com\nbob@example.com bob\n"
    assert read(text, "postfix", addresses_only=True) == [
        (1, entry("sales@example.com")),
        (2, entry("bob@example.com")),
    ]


def test_a_virtual_table_whose_line_goes_on_for_ever_is_refused() -> None:
    entries = read("a@b.example\n" + " x@b.example,\n" * 40_000 + "next@b.example next@b.example", "postfix")
    assert "longer than" in refused(entries)[1]
    assert taken(entries) == [(40_002, entry("next@b.example"))]


# PostfixAdmin, SimpleLogin, Google Workspace.


def test_the_alias_table_of_postfixadmin() -> None:
    text = """\
address,goto,domain,created,modified,active
support@example.com,support@example.com,example.com,2020-01-01 00:00:00,2020-01-01 00:00:00,t
help@example.com,support@example.com,example.com,2020-01-01 00:00:00,2020-01-01 00:00:00,1
keep@example.com,"keep@example.com,boss@example.com",example.com,,,t
old@example.com,support@example.com,example.com,,,0
all@example.com,"a@example.com,b@example.com",example.com,,,1
@example.com,support@example.com,example.com,,,1
"""
    entries = read(text, "postfixadmin")
    assert taken(entries) == [
        (2, entry("support@example.com")),
        (3, entry("help@example.com", alias_of="support@example.com")),
        (4, entry("keep@example.com", alias_of="boss@example.com")),
        (5, entry("old@example.com", alias_of="support@example.com", tags=REJECTED)),
    ]
    assert "2 targets" in refused(entries)[6]
    assert "catch-all" in refused(entries)[7]


SIMPLELOGIN = """\
alias,note,enabled,mailboxes
shop@example.com,"Used in shops, often",True,me@example.com
two@example.com,,True,me@example.com you@example.com
off@example.com,,False,me@example.com
"""


def test_the_export_of_simplelogin() -> None:
    entries = read(SIMPLELOGIN, "simplelogin")
    assert taken(entries) == [
        (2, entry("shop@example.com", description="Used in shops, often", alias_of="me@example.com")),
        (4, entry("off@example.com", alias_of="me@example.com", tags=REJECTED)),
    ]
    assert "2 targets" in refused(entries)[3]
    assert [found for _, found in read(SIMPLELOGIN, "simplelogin", addresses_only=True)] == [
        entry("shop@example.com", description="Used in shops, often"),
        entry("two@example.com"),
        entry("off@example.com", tags=REJECTED),
    ]


def test_the_users_of_google_workspace() -> None:
    text = """\
First Name [Required],Last Name [Required],Email Address [Required],Status [READ ONLY],Last Sign In [READ ONLY]
Ann,Lee,ann@example.com,Active,2024/01/31 07:55:13
Bob,,bob@example.com,Suspended,Never logged in
"""
    assert read(text, "google") == [
        (2, entry("ann@example.com", display_name="Ann Lee")),
        (3, entry("bob@example.com", display_name="Bob", tags=REJECTED)),
    ]


def test_the_aliases_of_google_workspace_as_gam_prints_them() -> None:
    text = "Alias,Target,TargetType\nann.lee@example.com,ann@example.com,User\n,bob@example.com,User\n"
    assert read(text, "google") == [(2, entry("ann.lee@example.com", alias_of="ann@example.com"))]
    text = """\
Target,TargetType,Aliases
ann@example.com,User,ann.lee@example.com
bob@example.com,User,b@a.example c@a.example
"""
    entries = read(text, "google")
    assert taken(entries) == [(2, entry("ann.lee@example.com", alias_of="ann@example.com"))]
    assert "2 aliases" in refused(entries)[3]
    assert len(read(text, "google", addresses_only=True)) == 3


# Which format it is.


@pytest.mark.parametrize(
    ("name", "format_name"),
    [
        ("a.jsonl", "jsonl"),
        ("A.NDJSON", "jsonl"),
        ("/etc/postfix/virtual", "postfix"),
        ("virtual_aliases", "postfix"),
        ("x.csv", "table"),
    ],
)
def test_the_name_tells_the_format(name: str, format_name: str) -> None:
    assert guess_format(name) == format_name


def test_a_name_that_tells_nothing_asks_for_the_format() -> None:
    with pytest.raises(FormatError, match="--format"):
        guess_format("-")
