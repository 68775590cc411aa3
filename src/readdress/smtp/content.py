"""Message content on the wire: where it ends, its dots unstuffed, and nothing that a next hop could read otherwise.

Only CRLF ends a line and only CRLF.CRLF ends the content of DATA (RFC 5321 §2.3.8, §4.1.1.4). A message with any other
CR, LF or NUL is read to its end and refused, so that no two servers can disagree about where it ended (SMTP smuggling);
a message of BDAT could be smuggled by its next hop, so it obeys the same rules unless it was declared BINARYMIME.
"""

import re
from io import IncrementalNewlineDecoder

from readdress.smtp import reply

_DOT = b"\r\n."
_FIRST_DOT = re.compile(re.escape(_DOT))  # which takes half as long as bytes.find()
_END = b"\r\n.\r\n"


class _Measure:
    """The limits of a content, whichever command brings it; `refusal` is set once it can't be accepted any more."""

    __slots__ = ("_bytes_max", "_line_bytes", "_line_bytes_max", "refusal", "size_bytes")

    def __init__(self, *, bytes_max: int, line_bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._line_bytes_max = line_bytes_max
        self._line_bytes = 0
        self.size_bytes = 0
        self.refusal: reply.Reply | None = None

    def _count(self, content: bytes) -> None:
        self.size_bytes += len(content)
        if self.size_bytes > self._bytes_max:
            self.refusal = reply.TOO_BIG

    def _measure_lines(self, content: bytes) -> None:
        """Note a line that is too long with its CRLF."""
        start = content.find(b"\n") + 1
        if not start:
            self._line_bytes += len(content)
            is_too_long = self._line_bytes > self._line_bytes_max
        else:
            is_too_long = self._line_bytes + start > self._line_bytes_max
            # From the beginning of a line to the last that ends within the limit: no line between is longer.
            while len(content) - start > self._line_bytes_max and not is_too_long:
                end = content.rfind(b"\n", start, start + self._line_bytes_max)
                is_too_long = end < 0
                start = end + 1
            self._line_bytes = len(content) - content.rfind(b"\n") - 1
        if is_too_long and self.refusal is None:
            self.refusal = reply.CONTENT_LINE_TOO_LONG


class ContentReader(_Measure):
    """Takes bytes behind DATA as they come, gives the content between the dots."""

    __slots__ = ("_held", "_starting")

    def __init__(self, *, bytes_max: int, line_bytes_max: int) -> None:
        super().__init__(bytes_max=bytes_max, line_bytes_max=line_bytes_max)
        # The CRLF of the DATA command also begins the content's first line, so that `.` CRLF ends an empty message.
        self._held = b"\r\n"
        self._starting = True

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """The content so far unread, and what followed its end, None before the end. Empty once refused."""
        stuffed = self._held + data
        found = _FIRST_DOT.search(stuffed)  # in most messages the only one is the end
        dot = found.start() if found else len(stuffed)
        end = stuffed.find(_END, dot)
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
        return self._check(stuffed, has_dots=dot < len(stuffed) - 2), rest

    def _check(self, stuffed: bytes, *, has_dots: bool) -> bytes:
        if self.refusal or not stuffed:
            return b""
        if has_stray_byte(stuffed):
            self.refusal = reply.BARE_CONTENT
        content = stuffed.replace(_DOT, b"\r\n") if has_dots else stuffed
        if self._starting:
            self._starting = False
            content = content[2:]
        self._count(content)
        self._measure_lines(content)
        return b"" if self.refusal else content


class ChunkReader(_Measure):
    """Takes the octets of BDAT's chunks (RFC 3030 §2), where a dot is a dot and the end is counted elsewhere.

    With `is_binary` any octets go (RFC 3030 §3). Without a line end at its end a content stays without one.
    """

    __slots__ = ("_held", "_is_binary")

    def __init__(self, *, bytes_max: int, line_bytes_max: int, is_binary: bool) -> None:
        super().__init__(bytes_max=bytes_max, line_bytes_max=line_bytes_max)
        self._is_binary = is_binary
        self._held = b""

    def feed(self, octets: bytes) -> bytes:
        """The content so far unread; empty once refused. A CR waits for its LF, which may be in another chunk."""
        if self.refusal:
            return b""
        if self._is_binary:
            content = octets
        else:
            content = self._held + octets
            cut = len(content) - content.endswith(b"\r")
            self._held = content[cut:]
            content = content[:cut]
            if has_stray_byte(content):
                self.refusal = reply.BARE_CONTENT
            self._measure_lines(content)
        self._count(content)
        return b"" if self.refusal else content

    def end(self) -> None:
        """Nothing follows."""
        if self._held and self.refusal is None:
            self.refusal = reply.BARE_CONTENT


def has_stray_byte(content: bytes) -> bool:
    """Whether a NUL is in it, or a CR or LF that is no part of a CRLF."""
    return b"\0" in content or has_bare_line_end(content)


def has_bare_line_end(content: bytes) -> bool:
    """Whether a CR or LF is no part of a CRLF; what the standard library knows of newlines it finds in one pass."""
    reader = IncrementalNewlineDecoder(None, translate=False)
    reader.decode(content.decode("latin-1"), True)
    return reader.newlines not in {None, "\r\n"}
