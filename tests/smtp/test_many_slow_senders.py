"""Two hundred connections that send long messages slowly at a time: memory grows with their number, not with size."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.process import ServiceProcess
from harness.smtp_client import SmtpClient, accepted_id
from harness.stored import count_rows, inbox, publish, wait_until

CONNECTIONS = 200
MEBIBYTE = 1024 * 1024
PIECE = (b"0123456789abcdef" * 63 + b"\r\n") * 64  # 64 KiB


def resident(process: ServiceProcess) -> int:
    status = Path(f"/proc/{process.process.pid}/status")
    if not status.exists():
        pytest.skip("only Linux tells how much memory a process holds")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


@pytest.fixture
def clients(start_service: Callable[..., ServiceProcess]) -> Iterator[tuple[ServiceProcess, str, list[SmtpClient]]]:
    """All in the middle of a message, with its beginning sent."""
    process = start_service()
    address_id, text = publish(process)
    with ExitStack() as stack:
        opened = [stack.enter_context(SmtpClient(process.smtp_address, timeout_s=60)) for _ in range(CONNECTIONS)]
        for number, client in enumerate(opened):
            assert client.say("EHLO client.example").startswith("250")
            assert client.begin("a@sender.example", text).startswith("354")
            client.send(b"Subject: %d\r\n\r\n" % number)
        yield process, address_id, opened


def send_to_all(clients: list[SmtpClient], pieces: int) -> None:
    """To each in turn, so that none is ahead."""
    for _ in range(pieces):
        for client in clients:
            client.send(PIECE)


@pytest.mark.parametrize(
    "pieces", [16, pytest.param(384, marks=[pytest.mark.torture, pytest.mark.timeout(1_800)])], ids=["1 MiB", "25 MB"]
)
def test_memory_stays_flat_however_long_their_messages_become(
    clients: tuple[ServiceProcess, str, list[SmtpClient]], pieces: int
) -> None:
    process, address_id, senders = clients
    send_to_all(senders, 8)
    wait_until(lambda: count_rows(process.data)["staged_content"] == CONNECTIONS)
    before = resident(process)
    send_to_all(senders, pieces)
    with SmtpClient(process.smtp_address) as other:  # which is served at once all the same
        assert other.say("NOOP").startswith("250")
    assert resident(process) - before < CONNECTIONS * MEBIBYTE
    ids = []
    for client in senders[:3]:
        client.send(b".\r\n")
        ids.append(accepted_id(client.read_reply()))
    for client in senders[3:]:
        client.close()
    assert sorted(inbox(process, address_id)) == sorted(ids)
    wait_until(lambda: count_rows(process.data)["staged_content"] == 0)
    assert count_rows(process.data)["message"] == 3
