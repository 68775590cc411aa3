"""Look-ups: over UDP and TCP, each once, within one deadline; what strangers answer is bounded."""

import contextlib
import itertools
import socket
import threading

import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.dns_zone import SERVFAIL, TIMEOUT, DnsServer, PatientResolver, txt
from harness.process import free_port
from readdress.mail.authentication import resolver
from readdress.mail.authentication.resolver import (
    RESPONSE_BYTES_MAX,
    DnsTemporaryError,
    Resolver,
    Server,
    parse_nameserver,
)

NAME = "example.com"


class FakeTime:
    """A clock that only its owner moves."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


class SilentResolver(Resolver):
    """Its servers never answer, and each question takes all the time that it is given."""

    def __init__(self, clock: FakeTime, nameservers: list[str]) -> None:
        super().__init__(nameservers, query_timeout_s=2, now_s=clock)
        self.clock = clock
        self.asked: list[str] = []

    def exchange(
        self, server: Server, query: dns.message.QueryMessage, *, timeout_s: float, tcp: bool
    ) -> dns.message.Message:
        _ = query, tcp
        self.asked.append(server.address)
        self.clock.now_s += timeout_s
        raise TimeoutError


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("192.0.2.1", Server("192.0.2.1", 53)),
        ("192.0.2.1:5353", Server("192.0.2.1", 5353)),
        ("2001:db8::1", Server("2001:db8::1", 53)),
        ("[2001:db8::1]:5353", Server("2001:db8::1", 5353)),
    ],
)
def test_a_name_server_is_an_address_with_or_without_a_port(text: str, server: Server) -> None:
    assert parse_nameserver(text) == server


@pytest.mark.parametrize(
    "text", ["", "localhost", "dns.example:53", "192.0.2.1:", "192.0.2.1:0", "192.0.2.1:65536", ":53"]
)
def test_anything_else_is_no_name_server(text: str) -> None:
    with pytest.raises(ValueError, match=r"name server|IP|address"):
        parse_nameserver(text)


def test_values_have_the_form_of_their_type(dns: DnsServer) -> None:
    records = [
        txt(b"a" * 300),
        ("A", "192.0.2.1"),
        ("AAAA", "2001:db8::1"),
        ("MX", "10 Mail.Example.com."),
        ("PTR", "x.test."),
    ]
    dns.update({NAME: records})
    lookups = PatientResolver(dns).begin(60)
    assert lookups.texts(NAME) == [b"a" * 300]
    assert lookups.resolve(NAME, "A").values == ("192.0.2.1",)
    assert lookups.resolve(NAME, "AAAA").values == ("2001:db8::1",)
    assert lookups.resolve(NAME, "MX").values == ((10, "mail.example.com"),)
    assert lookups.resolve("Example.COM.", "PTR").values == ("x.test",)


def test_no_record_and_no_name_are_told_apart(dns: DnsServer) -> None:
    # RFC 8020 §2: a name with something below it exists
    dns.update({f"a.{NAME}": [txt("x")]})
    lookups = PatientResolver(dns).begin(60)
    assert lookups.exists(NAME)
    assert not lookups.resolve(NAME, "TXT").values
    assert not lookups.exists(f"b.{NAME}")


def test_cnames_are_followed_and_a_circle_leads_nowhere(dns: DnsServer) -> None:
    dns.update({"a.test": [("CNAME", "b.test.")], "b.test": [("CNAME", "c.test.")], "c.test": [txt("x")]})
    dns.update({"d.test": [("CNAME", "e.test.")], "e.test": [("CNAME", "d.test.")]})
    lookups = PatientResolver(dns).begin(60)
    assert lookups.texts("a.test") == [b"x"]
    assert lookups.texts("d.test") == []


def test_an_answer_that_is_cut_is_asked_for_again_over_tcp(dns: DnsServer) -> None:
    # RFC 7766 §5
    dns.update({NAME: [txt("x" * 3_000)]})
    assert PatientResolver(dns).begin(60).texts(NAME) == [b"x" * 3_000]
    assert dns.asked == [(NAME, "TXT"), (NAME, "TXT/tcp")]


def test_an_answer_that_is_too_long_is_none(dns: DnsServer) -> None:
    dns.update({NAME: [txt("x" * RESPONSE_BYTES_MAX)]})
    with pytest.raises(DnsTemporaryError, match="too long"):
        PatientResolver(dns).begin(60).texts(NAME)


@pytest.mark.parametrize("trouble", [SERVFAIL, TIMEOUT])
def test_trouble_is_temporary_and_asked_about_once_a_message(dns: DnsServer, trouble: str) -> None:
    dns.update({NAME: [trouble]})
    lookups = PatientResolver(dns).begin(60)
    for _ in range(3):
        with pytest.raises(DnsTemporaryError):
            lookups.texts(NAME)
    assert dns.asked == [(NAME, "TXT")] * 2  # a server has two tries


def test_another_server_is_asked_when_one_does_not_answer(dns: DnsServer) -> None:
    dns.update({NAME: [txt("x")]})
    nobody = f"127.0.0.1:{free_port()}"
    assert Resolver([nobody, dns.address]).begin(60).texts(NAME) == [b"x"]


def test_a_forged_answer_is_waited_out() -> None:
    # RFC 5452 §9.1: what does not fit the question is not taken, and the true answer may follow.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(20)

        def answer() -> None:
            wire, client = server.recvfrom(4_096)
            query = dns.message.from_wire(wire)
            other_id = dns.message.make_response(query)
            other_id.id = query.id ^ 1
            other_question = dns.message.make_response(dns.message.make_query("other.test", "TXT", id=query.id))
            for forged in (b"", b"\0" * 5, other_id.to_wire(), other_question.to_wire(), wire):
                server.sendto(forged, client)
            true = dns.message.make_response(query)
            true.set_rcode(dns.rcode.NXDOMAIN)
            server.sendto(true.to_wire(), client)

        thread = threading.Thread(target=answer)
        thread.start()
        resolver = Resolver([f"127.0.0.1:{server.getsockname()[1]}"], query_timeout_s=20)
        assert not resolver.begin(20).exists(NAME)
        thread.join(20)


def _some_answer() -> bytes:
    query = dns.message.make_query(NAME, "TXT", id=1)
    response = dns.message.make_response(query)
    response.answer.append(dns.rrset.from_text(f"{NAME}.", 300, "IN", "CNAME", "a.test."))
    response.answer.append(dns.rrset.from_text("a.test.", 300, "IN", "TXT", '"x" "y"'))
    response.authority.append(dns.rrset.from_text("test.", 300, "IN", "SOA", "a. b. 1 2 3 4 5"))
    return response.to_wire()


@given(changes=st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), max_size=6), end=st.integers(0, 200))
@settings(deadline=None, max_examples=300)
def test_any_bytes_from_a_server_are_an_answer_or_trouble(changes: list[tuple[int, int]], end: int) -> None:
    wire = bytearray(_some_answer())
    for place, value in changes:
        wire[place % len(wire)] = value
    response = resolver._parse(dns.message.make_query(NAME, "TXT", id=1), bytes(wire[:end]))
    if response is not None:
        with contextlib.suppress(DnsTemporaryError):
            assert resolver._read(response).ttl_s <= 3_600


@pytest.mark.parametrize(
    "name", ["", ".", "a..b", "x" * 64 + ".test", ".".join(["abcdefghi"] * 26), "bücher.test", "a.test\udcff"]
)
def test_what_cannot_be_a_name_is_not_asked_for(dns: DnsServer, name: str) -> None:
    # RFC 1035 §2.3.4
    assert PatientResolver(dns).begin(60).resolve(name, "A") == ((), False)
    assert not dns.asked


@pytest.mark.parametrize("name", ["a\\.b.test", 'a"b.test', "a b.test", "a\0b.test", "*.test", "\\000.test"])
def test_any_characters_go_into_a_label_as_they_are(dns: DnsServer, name: str) -> None:
    dns.update({name: [txt("x")]})
    assert PatientResolver(dns).begin(60).texts(name) == [b"x"]


def test_an_answer_is_kept_as_long_as_it_lives(dns: DnsServer) -> None:
    clock = FakeTime()
    dns.update({NAME: [txt("x")]})
    resolver = Resolver([dns.address], query_timeout_s=20, now_s=clock)
    for at_s, questions in ((0, 1), (299, 1), (300, 2)):
        clock.now_s = 1_000 + at_s
        resolver.begin(60).texts(NAME)
        resolver.begin(60).texts(f"no.{NAME}")
        assert dns.asked.count((NAME, "TXT")) == questions
        assert dns.asked.count((f"no.{NAME}", "TXT")) == questions  # RFC 2308 §5


def test_nothing_is_kept_longer_than_an_hour() -> None:
    clock = FakeTime()
    with DnsServer({NAME: [txt("x")]}, ttl_s=1_000_000) as dns_server:
        resolver = Resolver([dns_server.address], query_timeout_s=20, now_s=clock)
        resolver.begin(60).texts(NAME)
        clock.now_s += 3_599
        resolver.begin(60).texts(NAME)
        assert len(dns_server.asked) == 1
        clock.now_s += 1
        resolver.begin(60).texts(NAME)
        assert len(dns_server.asked) == 2


def test_the_cache_has_room_for_so_many_and_drops_what_was_used_least_recently(dns: DnsServer) -> None:
    dns.update({name: [txt(name)] for name in ("a", "b", "c")})
    resolver = Resolver([dns.address], query_timeout_s=20, cache_entries_max=2)
    for name in ("a", "b", "a", "c", "a", "b"):
        resolver.begin(60).texts(name)
    assert [name for name, _ in dns.asked] == ["a", "b", "c", "b"]


def test_servers_that_say_nothing_cost_no_more_than_the_budget() -> None:
    clock = FakeTime()
    resolver = SilentResolver(clock, ["192.0.2.1", "192.0.2.2"])
    lookups = resolver.begin(7)
    for number in range(100):
        with pytest.raises(DnsTemporaryError):
            lookups.resolve(f"{number}.test", "A")
    assert clock.now_s == 1_007
    assert resolver.asked == ["192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.2"]  # of 2 s, and 1 s that was left


def test_threads_share_one_resolver(dns: DnsServer) -> None:
    dns.update({f"{number}.test": [txt(str(number))] for number in range(20)})
    resolver = PatientResolver(dns)
    found: list[list[bytes]] = []

    def ask(number: int) -> None:
        found.append(resolver.begin(60).texts(f"{number}.test"))

    threads = [threading.Thread(target=ask, args=(number % 20,)) for number in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(itertools.chain.from_iterable(found)) == sorted(str(number % 20).encode() for number in range(60))
