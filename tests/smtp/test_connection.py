"""A connection whose backend breaks: the sender is told to come again, and what was thrown is in the log alone."""

import asyncio
import logging
import socket

import pytest

from readdress.smtp import reply
from readdress.smtp.backend import IncomingMessage, Peer
from readdress.smtp.connection import Door, Timeouts
from readdress.smtp.envelope import Envelope
from readdress.smtp.grammar import Path
from readdress.smtp.peers import PeerLimits, Peers, parse_networks
from readdress.smtp.reply import Reply
from readdress.smtp.server import SmtpServer
from readdress.smtp.session import Limits
from readdress.smtp.tarpit import Tarpit

WAIT_S_MAX = 20
SECRET = "what only the log may say"


class BrokenBackend:
    async def check_recipient(self, recipient: Path) -> Reply:
        return reply.RECIPIENT_OK

    def begin_message(self, envelope: Envelope, peer: Peer) -> IncomingMessage:
        raise RuntimeError(SECRET)


def make_door() -> Door:
    return Door(
        "smtp",
        BrokenBackend(),
        hostname="mx.example",
        limits=Limits(),
        timeouts=Timeouts(),
        connections_max=2,
        peers=Peers(PeerLimits(1, 1, 1, 1), unlimited=parse_networks("127.0.0.0/8")),
        tarpit=Tarpit(after_errors=5, delay_s=0),
    )


async def hold_session(pieces: list[bytes]) -> list[str]:
    """Each piece is said after a reply to the one before; what was heard, in lines."""
    server = SmtpServer(make_door())
    listening = socket.create_server(("127.0.0.1", 0))
    await server.start([listening])
    try:
        async with asyncio.timeout(WAIT_S_MAX):
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            heard = await reader.readline()
            for piece in pieces:
                writer.write(piece)
                heard += await reader.readline()
            heard += await reader.read()
            writer.close()
    finally:
        await server.stop()
    return heard.decode("ascii").split("\r\n")


@pytest.mark.parametrize(
    "pieces",
    [
        [b"HELO client.example\r\n", b"MAIL FROM:<a@example.org>\r\n", b"RCPT TO:<b@example.com>\r\n", b"DATA\r\n"],
        [b"HELO client.example\r\n", b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n"],
    ],
    ids=["one by one", "pipelined"],
)
def test_a_backend_that_breaks_is_a_451_and_a_line_in_the_log(
    pieces: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    # contract 6: what we cannot do now is a 4xx; nothing of the inside is told
    with caplog.at_level(logging.ERROR, "readdress.smtp"):
        heard = asyncio.run(hold_session(pieces))
    assert heard[-2:] == [str(reply.STORE_TROUBLE), ""]
    assert SECRET not in "".join(heard)
    assert [SECRET in (record.exc_text or str(record.exc_info)) for record in caplog.records] == [True]
