"""Whatever a directory has, its export imported into an empty one makes the same directory, in either format."""

import io
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import ManualClock
from harness.bulk_files import INSTANCE, directory, make_instance, take
from harness.engine import Engine
from readdress.address import split_address
from readdress.bulk import exporting, formats
from readdress.bulk.entry import Entry

_LETTERS = st.characters(exclude_categories=("Cc", "Cs"))
_ATOM = st.characters(categories=("L", "N"), include_characters="!#$%&'*+/=?^_`{|}~.-\"")
_WORD = st.text(_ATOM, min_size=1, max_size=8)
_ADDRESS = st.builds("{}@{}.example".format, _WORD, st.from_regex(r"[a-zA-Zäßé]{1,5}", fullmatch=True))
_NAME = st.none() | st.text(_LETTERS, max_size=20)
_DESCRIPTION = st.none() | st.text(_LETTERS | st.sampled_from('\t\r\n",;\\'), max_size=30)
_TAGS = st.none() | st.dictionaries(
    st.from_regex(r"[a-zA-Zä0-9 .:/=+\-@]{1,10}", fullmatch=True).filter(
        lambda key: not key.startswith("aws:") and not key.lower().startswith("readdress:")
    ),
    st.text(_LETTERS, max_size=10),
    min_size=1,
    max_size=3,
)
_ENTRY = st.builds(
    lambda address, name, description, tags: Entry(
        email_address=address, display_name=name, description=description, tags=tags
    ),
    _ADDRESS, _NAME, _DESCRIPTION, _TAGS,
)  # fmt: skip


@st.composite
def _entries(draw: st.DrawFn) -> list[Entry]:
    """Addresses of which some are aliases of others."""
    drawn: list[Entry] = draw(
        st.lists(_ENTRY, max_size=12, unique_by=lambda entry: split_address(entry.email_address).key)
    )
    pairs = draw(st.integers(0, len(drawn) // 2))
    for at in range(pairs):
        drawn[2 * at].alias_of = drawn[2 * at + 1].email_address
    return draw(st.permutations(drawn))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(entries=_entries(), form=st.sampled_from(["jsonl", "csv"]))
def test_an_export_makes_the_same_directory_again(engine: Engine, entries: list[Entry], form: str) -> None:
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        with engine.database(Path(first), ManualClock()) as here:
            make_instance(here)
            taken = take(here, enumerate(entries, 1))
            assert taken.refused == []
            before = directory(here)
            exported = io.BytesIO()
            assert here.run(lambda tx: exporting.write(tx, INSTANCE, exported, form)) == len(entries)
        exported.seek(0)
        with engine.database(Path(second), ManualClock()) as there:
            make_instance(there)
            again = take(there, formats.read(exported, name="-", format_name=form, addresses_only=False))
            assert again.refused == []
            assert directory(there) == {address: _held(values, form) for address, values in before.items()}


def _held(values: tuple[Any, ...], form: str) -> tuple[Any, ...]:
    """CSV tells no empty text from none."""
    name, description, *rest = values
    return (name or None, description or None, *rest) if form == "csv" else values
