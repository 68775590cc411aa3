"""A raw socketmap client: netstrings out exactly as given, answers in as they come."""

import os
import socket
from typing import Self


class SocketmapClient:
    def __init__(self, address: tuple[str, int] | os.PathLike[str], *, timeout_s: float = 10) -> None:
        """Over TCP, or over a socket in the file system."""
        if isinstance(address, tuple):
            self.socket = socket.create_connection(address, timeout=timeout_s)
        else:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(timeout_s)
            self.socket.connect(os.fspath(address))
        self._file = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, request: str) -> str:
        self.send(netstring(request))
        return self.read_answer()

    def read_answer(self) -> str:
        """One answer; empty at the end of the connection."""
        digits = b""
        while (byte := self._file.read(1)).isdigit():
            digits += byte
        if not byte:
            return ""
        assert byte == b":", byte
        content = self._file.read(int(digits))
        assert self._file.read(1) == b","
        return content.decode()

    def is_closed(self) -> bool:
        """Wait for the end of the connection; False when something else comes."""
        try:
            return self._file.read(1) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self._file.close()
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def netstring(text: str) -> bytes:
    content = text.encode()
    return b"%d:%b," % (len(content), content)
