"""The address key: what two spellings of one address share (contract 5)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from readdress.address import Address, fold, fold_domain, split_address
from readdress.clock import iso_8601, new_id, rfc_5322


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Help@Example.COM", "help@example.com"),
        ("straße@example.com", "STRASSE@example.com"),
        ("caf\u00e9@example.com", "cafe\u0301@example.com"),  # NFC
        ("x@b\u00fccher.example", "x@xn--bcher-kva.example"),
        ("x@B\u00dcCHER.example", "x@XN--BCHER-KVA.EXAMPLE"),
        ('"a"@example.com', "a@example.com"),  # RFC 5321 §4.1.2
        (r'"a\ b"@example.com', '"a b"@example.com'),
        ("x@例え。テスト", "x@xn--r8jz45g.xn--zckzah"),  # an ideographic full stop is a dot
    ],
)
def test_spellings_of_one_address_share_a_key(one: str, other: str) -> None:
    assert split_address(one).key == split_address(other).key


@pytest.mark.parametrize(("one", "other"), [("a@b.c", "a@b.d"), ("a.b@c.d", "ab@c.d"), ("a+x@b.c", "a@b.c")])
def test_different_addresses_have_different_keys(one: str, other: str) -> None:
    assert split_address(one).key != split_address(other).key


@pytest.mark.parametrize("domain", ["-.-", "a..b", "\u200d.x", "xn--\u00fc.example", "_dmarc.example"])
def test_a_domain_that_idna_refuses_still_has_a_key(domain: str) -> None:
    assert fold_domain(domain) == fold_domain(domain.upper())


@given(st.text(max_size=40))
def test_folding_is_stable(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@given(
    st.text(min_size=1, max_size=20).filter(lambda text: text[0] != '"'),
    st.text(min_size=1, max_size=20).filter(lambda text: "@" not in text),
)
def test_an_address_splits_at_its_last_at_sign(local_part: str, domain: str) -> None:
    parts = split_address(f"{local_part}@{domain}")
    assert parts == (local_part, domain)


def test_an_address_prints_as_it_was_typed() -> None:
    assert str(Address("Help", "Example.com")) == "Help@Example.com"
    assert str(Address("postmaster", "")) == "postmaster"


def test_ids_are_uuids_in_order_of_time() -> None:
    ids = [new_id() for _ in range(1_000)]
    assert len(set(ids)) == 1_000
    assert [value[:18] for value in ids] == sorted(value[:18] for value in ids)
    assert all(value[14] == "7" and value[19] in "89ab" for value in ids)  # RFC 9562 §5.7


@pytest.mark.parametrize(
    ("at_ms", "expected"),
    [(0, "1970-01-01T00:00:00.000Z"), (1_714_704_088_172, "2024-05-03T02:41:28.172Z")],
)
def test_timestamps_are_iso_8601_with_milliseconds(at_ms: int, expected: str) -> None:
    assert iso_8601(at_ms) == expected


def test_header_dates_are_rfc_5322() -> None:
    assert rfc_5322(1_714_704_088_172) == "Fri, 03 May 2024 02:41:28 +0000"
