"""A line to a server that falls silent or breaks at a word of the client's."""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Self

BYTES_MAX = 65_536


class SilentProxy:
    """Listens on `port` of loopback; while `word` is set, whoever says it is not heard any more on that connection.

    Nobody is told, but for `last_words`, if there are any: they go to the client, and the connection is reset.
    """

    def __init__(self, target: tuple[str, int], *, last_words: bytes = b"") -> None:
        self.word: bytes | None = None
        self.silenced = 0
        self._target = target
        self._last_words = last_words
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._ends: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        for end in [self._listener, *self._ends]:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # wakes who waits for it
        for thread in self._threads:
            thread.join()
        for end in [self._listener, *self._ends]:
            end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                self._ends += [client, server]
                for pump in ((client, server, self._is_heard), (server, client, _always)):
                    self._threads.append(threading.Thread(target=_pump, args=pump))
                    self._threads[-1].start()

    def _is_heard(self, said: bytes, client: socket.socket) -> bool:
        if self.word is None or self.word not in said:
            return True
        self.silenced += 1
        if self._last_words:
            client.sendall(self._last_words)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, and no goodbye
            client.close()
        return False


def _always(*_: object) -> bool:
    return True


def _received(end: socket.socket) -> Iterator[bytes]:
    with contextlib.suppress(OSError):
        while said := end.recv(BYTES_MAX):
            yield said


def _pump(source: socket.socket, target: socket.socket, is_heard: Callable[[bytes, socket.socket], bool]) -> None:
    """Until either end hangs up, which the other end sees."""
    received = _received(source)
    with contextlib.suppress(OSError):
        for said in received:
            if not is_heard(said, source):
                break
            target.sendall(said)
    for _ in received:  # said to nobody
        pass
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
