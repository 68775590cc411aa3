"""One field of results is ours, wherever a mail comes to rest; forged ones are gone, and those of others stay."""

from collections.abc import Iterator

import pytest

from harness.checked_mail import HOSTNAME, STRANGER, ZONE, connect, mail_of, results_fields, results_of
from harness.dns_zone import DnsServer
from harness.signed_mail import sign
from harness.smtp_client import accepted_id
from harness.two_hosts import NEXT_HOSTNAME, TwoHosts

# RFC 8601 §2.2 and RFC 5322: all of them say mx.example.org.
FORGED = [
    b"Authentication-Results: mx.example.org; dmarc=pass\r\n",
    b"AUTHENTICATION-RESULTS:MX.EXAMPLE.ORG;dmarc=pass\r\n",
    b"authentication-results : mx.example.org 1; dmarc=pass\r\n",
    b"Authentication-Results:\r\n\tmx.example.org;\r\n dmarc=pass\r\n",
    b'Authentication-Results: "mx.example.org"; dmarc=pass\r\n',
    b'Authentication-Results: "mx\\.example.org"; dmarc=pass\r\n',
    b"Authentication-Results: (a (nested) comment) mx.example.org (one more) 1; dmarc=pass\r\n",
    b"Authentication-Results:  (folded\r\n  comment)\r\n   mx.example.org\r\n\t;dmarc=pass\r\n",
    b"Authentication-Results: mx.example.org\r\n",
]
OTHERS = [
    b"Authentication-Results: mx.example.net; dmarc=fail\r\n",
    b"Authentication-Results: mx.example.org.evil.example; dmarc=pass\r\n",
    b"Authentication-Results: (mx.example.org) hop.example; none\r\n",
    b"ARC-Authentication-Results: i=1; mx.example.org; dmarc=pass\r\n",
    b"X-Folded: x\r\n Authentication-Results: mx.example.org; dmarc=pass\r\n",
]
IN_BODY = b"Authentication-Results: mx.example.org; dmarc=pass\r\n\r\nbye\r\n"


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoHosts]:
    with DnsServer(ZONE) as dns:
        two = TwoHosts(tmp_path_factory.mktemp("results"), dns)
        yield two
        two.stop()


def mail(fields: list[bytes]) -> bytes:
    return b"".join(fields) + mail_of("a@reject.example", body=IN_BODY)


MIXED = [field for pair in zip(FORGED, [*OTHERS, *[b"X: y\r\n"] * 9], strict=False) for field in pair]


@pytest.mark.parametrize("transport", ["inbox", "files", "store", "relay", "inside"])
@pytest.mark.parametrize("filler", [b"", b"X-Filler: " + b"x" * 900 + b"\r\n"], ids=["small", "staged"])
def test_forged_fields_go_and_one_of_ours_stands_on_top(hosts: TwoHosts, transport: str, filler: bytes) -> None:
    # RFC 8601 §5, §4.1
    place = hosts.publish(transport)
    body = filler * 400
    with connect(hosts.first.smtp, source=STRANGER) as client:
        content = mail(MIXED) + body
        message_id = accepted_id(client.mail("a@reject.example", place.text, content=content))
    stored = hosts.stored(place, message_id)
    kept = mail([field for field in MIXED if field not in FORGED]) + body
    if transport == "files":
        stored, kept = stored.replace(b"\r\n", b"\n"), kept.replace(b"\r\n", b"\n")
    assert stored.endswith(kept)
    trace = stored.removesuffix(kept)
    assert results_of(trace)["dmarc"] == ["fail"]
    # Between it and what came stands our Received field alone.
    ours = trace[(b"\n" + trace).index(b"\nAuthentication-Results: mx.example.org;") :]
    assert [line.split(b":")[0] for line in ours.splitlines() if line[:1] != b"\t"] == [
        b"Authentication-Results",
        b"Received",
    ]
    fields = results_fields(stored)
    hostnames = [HOSTNAME] if transport in ("inbox", "files") else [NEXT_HOSTNAME, HOSTNAME]
    assert [field.split(";")[0] for field in fields[: len(hostnames)]] == hostnames
    assert fields[len(hostnames) :] == [
        "mx.example.net; dmarc=fail",
        "mx.example.org.evil.example; dmarc=pass",
        "(mx.example.org) hop.example; none",
    ]


@pytest.mark.parametrize("field", FORGED)
def test_a_forged_field_goes_where_there_is_nothing_else(hosts: TwoHosts, field: bytes) -> None:
    place = hosts.publish("inbox")
    with connect(hosts.first.smtp) as client:
        for content, kept in ((field + b"\r\nbody\r\n", b"\r\nbody\r\n"), (field, b""), (field * 20, b"")):
            message_id = accepted_id(client.mail("a@reject.example", place.text, content=content))
            stored = hosts.stored(place, message_id)
            assert len(results_fields(stored)) == 1
            assert stored.endswith(b"+0000\r\n" + kept)


def test_a_signature_over_a_forged_field_is_judged_as_the_mail_is_kept(hosts: TwoHosts) -> None:
    """What goes on has to be what was judged: a signature that covers the field breaks here and not at the next hop."""
    place = hosts.publish("relay")
    content = sign(
        FORGED[0] + mail_of("a@reject.example"),
        domain="reject.example",
        include_headers=[b"from", b"authentication-results"],
    )
    with connect(hosts.first.smtp) as client:
        message_id = accepted_id(client.mail("a@reject.example", place.text, content=content))
    judged = hosts.judged(place, message_id)
    assert results_of(judged.raw)["dkim"] == ["fail"]
    assert judged.shown("Dkim") == "fail"
