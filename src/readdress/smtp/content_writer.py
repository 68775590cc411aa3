"""Content on its way out: dots stuffed, the end said once, and nothing that the next hop could take for an end.

A CR or LF outside CRLF, or a NUL, raises StrayByte before the end is given out (RFC 5321 §2.3.8): whoever reads it
otherwise could find a second message in it (SMTP smuggling). Lines are sent as long as they are.
"""

from readdress.smtp.content import has_stray_byte


class StrayByte(Exception):
    """The content has a CR or LF outside a line end, or a NUL."""


class LineGuard:
    """Passes content on once it is checked; a CR at the end of a piece waits for its LF."""

    def __init__(self) -> None:
        self._held = b""

    def check(self, piece: bytes) -> bytes:
        """What can be sent of the content so far. Raises StrayByte."""
        content = self._held + piece if self._held else piece
        if content.endswith(b"\r"):
            content, self._held = content[:-1], b"\r"
        else:
            self._held = b""
        if has_stray_byte(content):
            raise StrayByte
        return content

    def check_end(self) -> None:
        """Raises StrayByte."""
        if self._held:
            raise StrayByte


class ContentWriter:
    """The content of DATA: takes pieces, gives what goes over the wire (RFC 5321 §4.5.2)."""

    def __init__(self) -> None:
        self._guard = LineGuard()
        self._is_at_line_start = True

    def feed(self, piece: bytes) -> bytes:
        """Raises StrayByte."""
        content = self._guard.check(piece)
        if not content:
            return b""
        stuffed = content.replace(b"\r\n.", b"\r\n..")
        if self._is_at_line_start and content.startswith(b"."):
            stuffed = b"." + stuffed
        self._is_at_line_start = content.endswith(b"\r\n")
        return stuffed

    def end(self) -> bytes:
        """The end of the content, with the line end that the last line may lack. Raises StrayByte."""
        self._guard.check_end()
        return b".\r\n" if self._is_at_line_start else b"\r\n.\r\n"
