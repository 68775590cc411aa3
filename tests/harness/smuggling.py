"""Sequences of bytes that some mail server has taken for the end of a message, and that are none (RFC 5321 §2.3.8)."""

from typing import Final

ENDS: Final = {
    "LF.LF": b"\n.\n",
    "CR.CR": b"\r.\r",
    "CRLF.CR": b"\r\n.\r",
    "CR.CRLF": b"\r.\r\n",
    "LF.CRLF": b"\n.\r\n",
    "CRLF.LF": b"\r\n.\n",
    "LF.CR": b"\n.\r",
    "CR.LF": b"\r.\n",
    "CRCRLF.CRLF": b"\r\r\n.\r\n",
    "CRLFCR.CRLF": b"\r\n\r.\r\n",
    "CRLF.CRCRLF": b"\r\n.\r\r\n",
    "CRLFLF.CRLF": b"\r\n\n.\r\n",
    "CRLF NUL.CRLF": b"\r\n\0.\r\n",
    "CRLF.NUL CRLF": b"\r\n.\0\r\n",
    "CRLF.CR NUL LF": b"\r\n.\r\0\n",
    "CR NUL LF.CRLF": b"\r\0\n.\r\n",
    ".LF": b".\n",
    ".CR": b".\r",
    ".NUL CRLF": b".\0\r\n",
    "NUL": b"\0",
    "LF": b"\n",
    "CR": b"\r",
}
# Behind its stray byte it has a true CRLF.CRLF, where everybody sees the end.
ENDS_TRULY: Final = frozenset({"CRCRLF.CRLF"})
