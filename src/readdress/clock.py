"""Time and identifiers: everything in the program that is not deterministic."""

import os
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import lru_cache

MS_PER_DAY = 86_400_000

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - the zone is written as Z


_DRAWN_AT_ONCE = 256
# A hexadecimal digit with its two highest bits set to 10, as a UUID has them (RFC 9562 §4.1).
_VARIANTS = {f"{digit:x}": f"{0x8 | digit & 0x3:x}" for digit in range(16)}
_random_halves: list[str] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random_halves.clear)  # two processes must not draw the same


def new_id() -> str:
    """A UUID whose order is the order of time, to a quarter of a microsecond (RFC 9562 §5.7, §6.2 method 3)."""
    milliseconds, rest_ns = divmod(time.time_ns(), 1_000_000)
    half = f"{milliseconds << 16 | 0x7000 | (rest_ns << 12) // 1_000_000:016x}"
    return f"{half[:8]}-{half[8:12]}-{half[12:]}-{_random_half()}"


def first_id(at_ms: int) -> str:
    """What no id made at that time or later comes before."""
    digits = f"{max(at_ms, 0):012x}"
    return f"{digits[:8]}-{digits[8:12]}"


def _random_half() -> str:
    """The second half of a UUID; the system is asked for many at a time, since asking costs more than all the rest."""
    try:
        return _random_halves.pop()
    except IndexError:
        drawn = os.urandom(8 * _DRAWN_AT_ONCE).hex()
        halves = [
            f"{_VARIANTS[drawn[at]]}{drawn[at + 1 : at + 4]}-{drawn[at + 4 : at + 16]}"
            for at in range(0, len(drawn), 16)
        ]
        last = halves.pop()
        _random_halves.extend(halves)
        return last


class Clock:
    """The machine's clock; tests pass another one."""

    def now_ms(self) -> int:
        """Milliseconds since 1970, UTC."""
        return time.time_ns() // 1_000_000


@lru_cache(maxsize=8_192)
def iso_8601(at_ms: int) -> str:
    """`2024-05-03T02:41:28.172Z`, the form of every timestamp that the API gives as text."""
    return (_EPOCH + timedelta(milliseconds=at_ms)).isoformat(timespec="milliseconds") + "Z"


def ms_of_id(identifier: str) -> int:
    """When an id of `new_id` was made; 0 for a text that is none."""
    try:
        return int(identifier[:8] + identifier[9:13], 16)
    except ValueError:
        return 0


def ms_of_datetime(at: datetime) -> int:
    """Milliseconds since 1970 of a time that knows its zone."""
    return (at - _EPOCH.replace(tzinfo=UTC)) // timedelta(milliseconds=1)


def rfc_5322(at_ms: int) -> str:
    """`Fri, 03 May 2024 02:41:28 +0000`, the form of a date in a mail's header."""
    return _rfc_5322(at_ms // 1000)


@lru_cache(maxsize=16)
def _rfc_5322(at_s: int) -> str:
    return format_datetime(datetime.fromtimestamp(at_s, UTC))
