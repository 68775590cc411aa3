"""Raw SMTP over a socket: bytes out exactly as given, replies in as they come."""

import re
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

    def mail(
        self, sender: str, *recipients: str, content: bytes = b"Subject: t\r\n\r\nb\r\n", parameters: str = ""
    ) -> str:
        """A whole mail transaction after EHLO; gives the last reply. `content` is dot-stuffed here."""
        reply = self.begin(sender, *recipients, parameters=parameters)
        if not reply.startswith("354"):
            return reply
        self.send(stuff(content))
        return self.read_reply()

    def begin(self, sender: str, *recipients: str, parameters: str = "") -> str:
        """A mail transaction up to its content; gives the last reply, 354 if nothing was refused."""
        reply = self.say(f"MAIL FROM:<{sender}>{parameters}")
        for recipient in recipients:
            if not reply.startswith("250"):
                return reply
            reply = self.say(f"RCPT TO:<{recipient}>")
        return self.say("DATA") if reply.startswith("250") else reply

    def close(self) -> None:
        self.file.close()
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def stuff(content: bytes) -> bytes:
    """Content that ends with CRLF, as it goes over the wire, with its end (RFC 5321 §4.5.2)."""
    return (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"


def accepted_id(reply: str) -> str:
    """The message's id in the reply that accepts it."""
    match = re.fullmatch(r"250 2\.0\.0 accepted (\S+)", reply)
    assert match, reply
    return match[1]
