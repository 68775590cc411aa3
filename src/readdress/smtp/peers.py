"""How much one peer may do at a time and in a minute; whoever wants more is refused for now and comes again.

A peer is an IPv4 address, or the /64 network of an IPv6 address, which is what one customer has. Every count is a
bucket that fills evenly and holds a minute's worth. The table of peers is bounded: who was away longest is forgotten.
"""

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from readdress.smtp import reply
from readdress.smtp.reply import Reply

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

PEERS_MAX = 65_536
_MINUTE_S = 60.0


@dataclass(frozen=True)
class PeerLimits:
    """What a peer may do; 0 is no limit."""

    connections_max: int = 0
    connections_per_minute: int = 0
    messages_per_minute: int = 0
    bad_recipients_per_minute: int = 0


class Bucket:
    """`per_minute` tokens at first, and as many again in a minute."""

    __slots__ = ("_at_s", "_per_minute", "_tokens")

    def __init__(self, per_minute: int, now_s: float) -> None:
        self._per_minute = per_minute
        self._tokens = float(per_minute)
        self._at_s = now_s

    def has_token(self, now_s: float) -> bool:
        if not self._per_minute:
            return True
        filled = self._tokens + (now_s - self._at_s) * self._per_minute / _MINUTE_S
        self._tokens = min(filled, float(self._per_minute))
        self._at_s = now_s
        return self._tokens >= 1

    def take(self) -> None:
        """Less than none is kept too, so that what was under way when the last token went is made up for."""
        self._tokens -= 1


class PeerRecord:
    """What one peer has done lately, by whatever door."""

    __slots__ = ("_bad_recipients", "_connections", "_limits", "_messages", "_monotonic_s", "connections")

    def __init__(self, limits: PeerLimits, monotonic_s: Callable[[], float]) -> None:
        now_s = monotonic_s()
        self._limits = limits
        self._monotonic_s = monotonic_s
        self._connections = Bucket(limits.connections_per_minute, now_s)
        self._messages = Bucket(limits.messages_per_minute, now_s)
        self._bad_recipients = Bucket(limits.bad_recipients_per_minute, now_s)
        self.connections = 0

    def open_connection(self) -> Reply | None:
        """Count a connection, or refuse it; one that was counted ends with `close_connection`."""
        if self._limits.connections_max and self.connections >= self._limits.connections_max:
            return reply.TOO_MANY_CONNECTIONS
        if not self._connections.has_token(self._monotonic_s()):
            return reply.TOO_MANY_CONNECTIONS
        self._connections.take()
        self.connections += 1
        return None

    def close_connection(self) -> None:
        self.connections -= 1

    def refuse_recipient(self) -> Reply | None:
        """Why the peer may not even ask for a recipient now: it has sent, or guessed, too much."""
        now_s = self._monotonic_s()
        if not self._messages.has_token(now_s):
            return reply.TOO_MANY_MESSAGES
        return None if self._bad_recipients.has_token(now_s) else reply.TOO_MANY_BAD_RECIPIENTS

    def count_message(self) -> None:
        self._messages.take()

    def count_bad_recipient(self) -> None:
        self._bad_recipients.take()


class Peers:
    """The records of all peers, shared by the doors of a process."""

    def __init__(
        self,
        limits: PeerLimits,
        *,
        unlimited: tuple[Network, ...] = (),
        peers_max: int = PEERS_MAX,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._unlimited = unlimited
        self._peers_max = peers_max
        self._monotonic_s = monotonic_s
        self._records: OrderedDict[int, PeerRecord] = OrderedDict()  # who came last is last

    def __len__(self) -> int:
        return len(self._records)

    def open_connection(self, address: str) -> PeerRecord | Reply | None:
        """Where to count what the peer does; None for one without limits, a Reply for one who may not come in now."""
        ip_address = parse_ip_address(address)
        if ip_address is None or is_within(ip_address, self._unlimited):
            return None
        key = _key(ip_address)
        record = self._records.get(key)
        if record is None:
            if len(self._records) >= self._peers_max and not self._forget_one():
                return reply.TOO_MANY_CONNECTIONS
            record = self._records[key] = PeerRecord(self._limits, self._monotonic_s)
        else:
            self._records.move_to_end(key)
        return record.open_connection() or record

    def _forget_one(self) -> bool:
        """Make room by whoever was away longest and has no connection; False when all of them have one."""
        for _ in range(len(self._records)):
            key, record = self._records.popitem(last=False)
            if not record.connections:
                return True
            self._records[key] = record
        return False


def parse_networks(text: str) -> tuple[Network, ...]:
    """`192.0.2.0/24, 2001:db8::1` as networks. Raises ValueError, which names what is none."""
    return tuple(ipaddress.ip_network(word.strip(), strict=False) for word in text.split(",") if word.strip())


@lru_cache(maxsize=1_024)  # who came once comes again
def parse_ip_address(text: str) -> IpAddress | None:
    """An address as a socket gives it; None for what is none, such as a socket in the file system."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address


def is_within(address: IpAddress, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks)


def _key(address: IpAddress) -> int:
    """IPv4 addresses and /64 networks, apart from each other."""
    return int(address) if address.version == 4 else (int(address) >> 64) + (1 << 64)
