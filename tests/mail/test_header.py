"""What intake looks for in a header to find loops: where a message says it has been."""

import pytest

from readdress.mail.header import HEADER_BYTES_MAX, RECEIVED_MAX, look_at_header

ID = "01234567-89ab-7def-8123-456789abcdef"
OURS = (
    f"Received: from a.example ([192.0.2.1])\r\n\tby mx.example.com with ESMTP id {ID}"
    "\r\n\tfor <a@b.example>;\r\n\tthen\r\n"
)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (OURS, {ID}),
        (OURS.replace("\r\n\tfor <a@b.example>", ""), {ID}),
        (OURS.upper(), {ID}),
        (OURS + OURS.replace(ID, ID[::-1]), {ID}),  # the other is no UUID
        (OURS + OURS.replace("0123", "4567"), {ID, ID.replace("0123", "4567")}),
        (f"X-{OURS}", set()),
        (f"Received: by a.example id 7\r\nSubject: id {ID}\r\n", set()),
        (f"Received: by a.example id x{ID}\r\n", set()),
        (f"Subject: t\r\n\r\n{OURS}", set()),
    ],
    ids=[
        "ours",
        "many recipients",
        "capitals",
        "no uuid",
        "two",
        "another field",
        "elsewhere",
        "longer",
        "in the body",
    ],
)
def test_the_ids_of_our_received_fields_are_found(header: str, found: set[str]) -> None:
    assert look_at_header(f"{header}\r\n".encode(), is_whole=True).received_ids == found


@pytest.mark.parametrize("filler", ["x", "\r\n ", " id ", " id 01234567-", "\r\n id 01234567-89ab"])
def test_a_hostile_header_takes_no_time(filler: str) -> None:
    # What is tried is bounded for each field, and so are the fields; without that this takes minutes.
    size = HEADER_BYTES_MAX // RECEIVED_MAX - 100
    header = ("Received: " + filler * (size // len(filler)) + "\r\n") * RECEIVED_MAX
    assert look_at_header(header.encode(), is_whole=True).received_ids == set()


def test_a_header_of_received_fields_alone_is_not_looked_into() -> None:
    facts = look_at_header(OURS.encode() * (RECEIVED_MAX + 1) + b"\r\n", is_whole=True)
    assert (facts.received_count, facts.received_ids) == (RECEIVED_MAX + 1, frozenset())
