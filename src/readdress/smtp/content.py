"""Message content on the wire: where it ends, its dots unstuffed, and nothing that a next hop could read otherwise.

Only CRLF ends a line and only CRLF.CRLF ends the content (RFC 5321 §2.3.8, §4.1.1.4). A message with any other CR, LF
or NUL is read to its end and refused, so that no two servers can disagree about where it ended (SMTP smuggling).
"""

from readdress.smtp import reply

_END = b"\r\n.\r\n"


class ContentReader:
    """Takes bytes as they come, gives the content between; `refusal` is set once it can't be accepted any more."""

    __slots__ = (
        "_bytes_max",
        "_held",
        "_line_bytes",
        "_line_bytes_max",
        "_starting",
        "refusal",
        "size_bytes",
    )

    def __init__(self, *, bytes_max: int, line_bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._line_bytes_max = line_bytes_max
        # The CRLF of the DATA command also begins the content's first line, so that `.` CRLF ends an empty message.
        self._held = b"\r\n"
        self._starting = True
        self._line_bytes = 0
        self.size_bytes = 0
        self.refusal: reply.Reply | None = None

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """The content so far unread, and what followed its end, None before the end. Empty once refused."""
        stuffed = self._held + data
        end = stuffed.find(_END)
        if end >= 0:
            rest: bytes | None = stuffed[end + len(_END) :]
            stuffed = stuffed[: end + 2]
        else:
            rest = None
            # What may be the beginning of an end waits for more: from the first CR among the last four bytes on.
            cut = stuffed.find(b"\r", max(0, len(stuffed) - 4))
            cut = cut if cut >= 0 else len(stuffed)
            self._held = stuffed[cut:]
            stuffed = stuffed[:cut]
        return self._check(stuffed), rest

    def _check(self, stuffed: bytes) -> bytes:
        if self.refusal or not stuffed:
            return b""
        if b"\0" in stuffed or not stuffed.count(b"\r\n") == stuffed.count(b"\r") == stuffed.count(b"\n"):
            self.refusal = reply.BARE_CONTENT
        content = stuffed.replace(b"\r\n.", b"\r\n")
        if self._starting:
            self._starting = False
            content = content[2:]
        self.size_bytes += len(content)
        if self.size_bytes > self._bytes_max:
            self.refusal = reply.TOO_BIG
        self._measure_lines(content)
        return b"" if self.refusal else content

    def _measure_lines(self, content: bytes) -> None:
        """Note a line that is too long with its CRLF; of pieces within the limit, only the line that goes on can be."""
        first_end = content.find(b"\n")
        if first_end < 0:
            self._line_bytes += len(content)
            longest = self._line_bytes
        else:
            longest = self._line_bytes + first_end + 1
            if len(content) > self._line_bytes_max:
                longest = max(longest, *map(len, content.splitlines(keepends=True)))
            self._line_bytes = len(content) - content.rfind(b"\n") - 1
        if longest > self._line_bytes_max and self.refusal is None:
            self.refusal = reply.CONTENT_LINE_TOO_LONG
