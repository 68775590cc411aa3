"""Hundreds of slow senders at once: memory stays flat whatever they send, and who drips costs a time-out, not a place.

The clients are tasks of one loop in this process, the server is the real program.
"""

import asyncio
import contextlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from harness.http_client import HttpClient
from harness.process import DEV_INSTANCE, ServiceProcess
from harness.smtp_client import SmtpClient, accepted_id

SENDERS = 200
MEBIBYTE = 1_048_576
# A connection holds some of what comes in and a part of its message, and a copy or two while that is stored. Here all
# of them fill theirs at the same time, and the allocator keeps what is between; nothing grows with a message's length.
GROWTH_BYTES_MAX = SENDERS * 2 * MEBIBYTE
RECIPIENT = "help@example.com"
WAIT_S_MAX = 60
HEAD = b"Subject: slow\r\n\r\n"
PIECE = (b"0123456789abcdef" * 63 + b"0123456789abcd\r\n") * 64  # 64 KiB
PIECES_PER_MEBIBYTE = 16


def memory(process: ServiceProcess, name: str) -> int:
    """A figure of the process's memory in bytes: VmRSS, what it holds, or VmHWM, the most that it ever held."""
    status = Path(f"/proc/{process.process.pid}/status")
    if not status.exists():
        pytest.skip("only Linux tells how much memory a process holds")
    line = next(line for line in status.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def publish(process: ServiceProcess) -> str:
    client = process.connect()
    made = client.create_email_address(InstanceId=DEV_INSTANCE, EmailAddress=RECIPIENT)
    client.close()
    return str(made["EmailAddressId"])


def send_at_once(process: ServiceProcess) -> str:
    """A sender like any other: the id of its mail."""
    with SmtpClient(process.smtp_address, timeout_s=WAIT_S_MAX) as client:
        client.say("EHLO other.example")
        return accepted_id(client.mail("b@sender.example", RECIPIENT))


class Sender:
    """One of many, in the middle of its message."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, line: str, code: str) -> None:
        self.writer.write(line.encode() + b"\r\n")
        reply = await self.hear()
        assert reply.startswith(code), reply

    async def hear(self) -> str:
        """The last line of a reply."""
        async with asyncio.timeout(WAIT_S_MAX):
            while (line := (await self.reader.readline()).decode())[3:4] == "-":
                pass
        return line.rstrip()

    async def begin(self, command: str = "DATA") -> None:
        await self.say("EHLO slow.example", "250")
        await self.say("MAIL FROM:<a@sender.example>", "250")
        await self.say(f"RCPT TO:<{RECIPIENT}>", "250")
        if command == "DATA":
            await self.say("DATA", "354")
        else:
            self.writer.write(f"{command}\r\n".encode())
        self.writer.write(HEAD)

    async def send(self, content: bytes) -> None:
        self.writer.write(content)
        async with asyncio.timeout(WAIT_S_MAX):
            await self.writer.drain()

    async def leave(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):  # it may have hung up with our bytes unread
            await self.writer.wait_closed()


async def open_senders(stack: AsyncExitStack, process: ServiceProcess, count: int = SENDERS) -> list[Sender]:
    senders = []
    for _ in range(count):
        reader, writer = await asyncio.open_connection(*process.smtp_address)
        senders.append(Sender(reader, writer))
        stack.push_async_callback(senders[-1].leave)
        assert (await senders[-1].hear()).startswith("220 ")
    return senders


@pytest.fixture
def many(request: pytest.FixtureRequest, start_service: Callable[..., ServiceProcess]) -> Iterator[ServiceProcess]:
    process = start_service(environment=getattr(request, "param", {}))
    publish(process)
    yield process
    process.stop()
    shutil.rmtree(process.data)  # gigabytes, in the long form


@pytest.mark.parametrize(
    ("mebibytes", "pause_s"),
    [(4, 0.05), pytest.param(25, 0.5, marks=[pytest.mark.torture, pytest.mark.timeout(3_600)])],
    ids=["short", "long"],
)
def test_memory_stays_flat_with_many_slow_senders(many: ServiceProcess, mebibytes: int, pause_s: float) -> None:
    """What they have sent is many times what may be held; in the middle of it all others come through."""
    rounds = mebibytes * PIECES_PER_MEBIBYTE
    assert SENDERS * mebibytes * MEBIBYTE >= 2 * GROWTH_BYTES_MAX
    send_at_once(many)
    before = memory(many, "VmRSS")

    async def send_slowly() -> list[str]:
        async with AsyncExitStack() as stack:
            senders = await open_senders(stack, many)
            await asyncio.gather(*(sender.begin() for sender in senders))
            for round_ in range(rounds):
                await asyncio.gather(*(sender.send(PIECE) for sender in senders))
                await asyncio.sleep(pause_s)
                if round_ == rounds // 2:
                    await asyncio.to_thread(send_at_once, many)
            await asyncio.gather(*(sender.send(b".\r\n") for sender in senders))
            return [await sender.hear() for sender in senders]

    ids = {accepted_id(reply) for reply in asyncio.run(send_slowly())}
    grown = memory(many, "VmHWM") - before
    assert grown < GROWTH_BYTES_MAX, f"{grown // MEBIBYTE} MiB"
    assert len(ids) == SENDERS
    with HttpClient(many.http_address) as http:
        path = f"/_readdress/instances/{DEV_INSTANCE}/messages/{ids.pop()}/content"
        assert http.call("GET", path).body.endswith(b"\r\n" + HEAD + PIECE * rounds)


# Each sends a byte now and then: of a command, of DATA's content, of a chunk.
DRIPS = {"command": "", "content": "DATA", "chunk": "BDAT 1000000 LAST"}


@pytest.mark.parametrize(
    "many",
    [
        {
            "READDRESS_COMMAND_TIMEOUT_MS": "3000",
            "READDRESS_MESSAGE_TIMEOUT_MS": "3000",
            "READDRESS_CONNECTIONS_MAX": str(SENDERS + 1),
        }
    ],
    indirect=True,
    ids=["3 s"],
)
def test_who_drips_costs_a_time_out_and_no_worker(many: ServiceProcess) -> None:
    """While all the places but one are taken by those who drip, the last one serves; then all are free again."""

    async def drip(sender: Sender, command: str) -> str:
        if command:
            await sender.begin(command)
        reading = asyncio.create_task(sender.hear())
        while not reading.done():
            sender.writer.write(b"x")
            await asyncio.wait({reading}, timeout=0.3)
        return await reading

    async def drip_all() -> tuple[Counter[str], int]:
        async with AsyncExitStack() as stack:
            senders = await open_senders(stack, many)
            commands = [list(DRIPS.values())[number % len(DRIPS)] for number in range(SENDERS)]
            dripping = asyncio.gather(*map(drip, senders, commands))
            served = 0
            while not dripping.done():
                await asyncio.to_thread(send_at_once, many)
                served += not dripping.done()
            return Counter(reply[:10] for reply in await dripping), served

    said, served = asyncio.run(drip_all())
    assert said == {"421 4.4.2 ": SENDERS}
    assert served > 1
    assert many.errors.count("end=timed-out") == SENDERS

    async def come_again() -> None:
        async with AsyncExitStack() as stack:
            await open_senders(stack, many)

    asyncio.run(come_again())
