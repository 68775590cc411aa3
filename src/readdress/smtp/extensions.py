"""What EHLO and LHLO offer; each extension is served by the session, or read by `parameters`."""

from functools import lru_cache

_SIX_DIGITS = 999_999  # the greatest limit that can be told (RFC 9422 §5)


@lru_cache(maxsize=64)
def offer(hostname: str, *, message_bytes_max: int, recipients_max: int, messages_max: int, starttls: bool) -> bytes:
    """The whole reply; `messages_max` 0 is no limit, and not told."""
    limits = f"RCPTMAX={min(recipients_max, _SIX_DIGITS)}"
    if messages_max:
        limits += f" MAILMAX={min(messages_max, _SIX_DIGITS)}"
    keywords = [
        hostname,
        "PIPELINING",
        f"SIZE {message_bytes_max}",
        "8BITMIME",
        "BINARYMIME",
        "CHUNKING",
        "SMTPUTF8",
        "DSN",
        "ENHANCEDSTATUSCODES",
        f"LIMITS {limits}",
        *(["STARTTLS"] if starttls else []),
        "HELP",
    ]
    lines = [f"250-{keyword}\r\n" for keyword in keywords[:-1]]
    return "".join([*lines, f"250 {keywords[-1]}\r\n"]).encode()
