"""Limits of peers, with a clock that the test moves: what is counted for whom, when it is given back, and how much."""

import ipaddress

import pytest

from readdress.smtp import reply
from readdress.smtp.peers import PeerLimits, PeerRecord, Peers, parse_networks
from readdress.smtp.reply import Reply


class Monotonic:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def monotonic() -> Monotonic:
    return Monotonic()


def connect(peers: Peers, address: str) -> PeerRecord:
    record = peers.open_connection(address)
    assert isinstance(record, PeerRecord)
    return record


def test_connections_at_a_time_are_bounded_and_given_back(monotonic: Monotonic) -> None:
    peers = Peers(PeerLimits(connections_max=2), monotonic_s=monotonic)
    first = connect(peers, "192.0.2.1")
    connect(peers, "192.0.2.1")
    assert peers.open_connection("192.0.2.1") == reply.TOO_MANY_CONNECTIONS
    connect(peers, "192.0.2.2")
    first.close_connection()
    connect(peers, "192.0.2.1")
    assert peers.open_connection("192.0.2.1") == reply.TOO_MANY_CONNECTIONS


def test_connections_a_minute_are_bounded_and_come_back_evenly(monotonic: Monotonic) -> None:
    peers = Peers(PeerLimits(connections_per_minute=6), monotonic_s=monotonic)
    for _ in range(6):
        connect(peers, "192.0.2.1").close_connection()
    assert peers.open_connection("192.0.2.1") == reply.TOO_MANY_CONNECTIONS
    monotonic.now_s += 9.9
    assert isinstance(peers.open_connection("192.0.2.1"), Reply)
    monotonic.now_s += 0.2  # to ask in vain costs nothing
    connect(peers, "192.0.2.1").close_connection()
    assert isinstance(peers.open_connection("192.0.2.1"), Reply)
    monotonic.now_s += 3_600
    for _ in range(6):  # an hour's rest is worth a minute's
        connect(peers, "192.0.2.1").close_connection()
    assert isinstance(peers.open_connection("192.0.2.1"), Reply)


@pytest.mark.parametrize(("what", "refusal"), [("message", "451 4.7.1"), ("bad_recipient", "450 4.7.1")])
def test_messages_and_guesses_a_minute_are_bounded(monotonic: Monotonic, what: str, refusal: str) -> None:
    peers = Peers(PeerLimits(messages_per_minute=3, bad_recipients_per_minute=3), monotonic_s=monotonic)
    record, other = connect(peers, "192.0.2.1"), connect(peers, "192.0.2.2")
    again = connect(peers, "192.0.2.1")
    for _ in range(3):
        assert record.refuse_recipient() is None
        getattr(record, f"count_{what}")()
    assert str(record.refuse_recipient()).startswith(refusal)
    assert again is record
    assert other.refuse_recipient() is None
    monotonic.now_s += 20.1
    assert record.refuse_recipient() is None


def test_what_was_under_way_when_the_last_token_went_is_made_up_for(monotonic: Monotonic) -> None:
    record = connect(Peers(PeerLimits(messages_per_minute=60), monotonic_s=monotonic), "192.0.2.1")
    for _ in range(65):
        record.count_message()
    monotonic.now_s += 5.5
    assert record.refuse_recipient() is not None
    monotonic.now_s += 1
    assert record.refuse_recipient() is None


def test_zero_is_no_limit(monotonic: Monotonic) -> None:
    peers = Peers(PeerLimits(), monotonic_s=monotonic)
    for _ in range(1_000):
        record = connect(peers, "192.0.2.1")
        record.count_message()
        record.count_bad_recipient()
        assert record.refuse_recipient() is None


def test_a_64_network_is_one_peer_and_a_mapped_address_is_its_ipv4_one(monotonic: Monotonic) -> None:
    peers = Peers(PeerLimits(connections_max=1), monotonic_s=monotonic)
    for first, second in (
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"),
        ("fe80::1%lo", "fe80::2%eth0"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
    ):
        connect(peers, first)
        assert isinstance(peers.open_connection(second), Reply)
    connect(peers, "2001:db8:1:3::1")
    connect(peers, "::192.0.2.2")
    connect(peers, "192.0.2.2")


def test_peers_without_limits_are_not_even_counted(monotonic: Monotonic) -> None:
    unlimited = parse_networks("127.0.0.0/8, ::1, 2001:db8::/32")
    peers = Peers(PeerLimits(connections_max=1), unlimited=unlimited, monotonic_s=monotonic)
    for address in ("127.0.0.1", "127.9.9.9", "::1", "2001:db8:9::1", "::ffff:127.0.0.1", "unix"):
        assert peers.open_connection(address) is None
    assert len(peers) == 0
    connect(peers, "128.0.0.1")


def test_the_table_is_bounded_and_who_is_connected_is_never_forgotten(monotonic: Monotonic) -> None:
    peers = Peers(PeerLimits(connections_max=1), peers_max=3, monotonic_s=monotonic)
    connect(peers, "192.0.2.1")
    for last in range(2, 200):
        connect(peers, f"192.0.2.{last}").close_connection()
        assert len(peers) <= 3
    assert isinstance(peers.open_connection("192.0.2.1"), Reply)
    connect(peers, "198.51.100.1")
    connect(peers, "198.51.100.2")
    assert peers.open_connection("198.51.100.3") == reply.TOO_MANY_CONNECTIONS  # no room, as all are connected
    assert len(peers) == 3


def test_networks_are_read_and_what_is_none_is_named() -> None:
    assert parse_networks("") == ()
    assert parse_networks(" 10.1.2.3/8 ,2001:db8::1,") == (
        ipaddress.ip_network("10.0.0.0/8"),
        ipaddress.ip_network("2001:db8::1/128"),
    )
    with pytest.raises(ValueError, match="somewhere"):
        parse_networks("10.0.0.0/8, somewhere")
