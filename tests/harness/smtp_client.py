"""Raw SMTP over a socket: bytes out exactly as given, replies in as they come."""

import socket
from typing import Self


class SmtpClient:
    def __init__(self, address: tuple[str, int], *, greeting: bool = True, timeout_s: float = 10) -> None:
        self.socket = socket.create_connection(address, timeout=timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")
        self.greeting = self.read_reply() if greeting else ""

    def send(self, data: bytes | str) -> None:
        self.socket.sendall(data if isinstance(data, bytes) else data.encode())

    def read_reply(self) -> str:
        """One reply, its lines joined by newlines; empty at the end of the connection."""
        lines = []
        while True:
            line = self.file.readline().decode()
            lines.append(line.rstrip("\r\n"))
            if len(line) < 4 or line[3] != "-":
                return "\n".join(lines)

    def say(self, line: str) -> str:
        """A command line and its reply."""
        self.send(line + "\r\n")
        return self.read_reply()

    def mail(self, sender: str, *recipients: str, content: bytes = b"Subject: t\r\n\r\nb\r\n") -> str:
        """A whole mail transaction after EHLO; gives the last reply. `content` is dot-stuffed here."""
        reply = self.say(f"MAIL FROM:<{sender}>")
        if not reply.startswith("250"):
            return reply
        for recipient in recipients:
            reply = self.say(f"RCPT TO:<{recipient}>")
            if not reply.startswith("250"):
                return reply
        reply = self.say("DATA")
        if not reply.startswith("354"):
            return reply
        stuffed = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:]
        self.send(stuffed + b".\r\n")
        return self.read_reply()

    def close(self) -> None:
        self.file.close()
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
