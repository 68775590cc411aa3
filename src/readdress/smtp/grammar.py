"""The grammar of commands: verbs, paths, addresses and parameters (RFC 5321 §4.1.2, RFC 6531 §3.3).

Local parts are read leniently (`a..b` passes), since addresses like that exist; domains are not, since they route.
"""

import re
from functools import lru_cache
from typing import NamedTuple

from readdress.address import Address, unquote

# RFC 5321 §4.5.3.1, in octets.
LOCAL_PART_BYTES_MAX = 64
DOMAIN_BYTES_MAX = 255
PATH_BYTES_MAX = 256

# Classes name what they exclude: everything from U+00A0 on is allowed, and naming that would take long to compile.
_ATOM = r"[^\x00-\x20\"(),:;<>@\[\\\]\x7f-\x9f]+"
_QUOTED = r'"(?:[^"\\\x00-\x1f\x7f-\x9f]|\\[^\x00-\x1f\x7f-\x9f])*"'
_LETTER = r"[^\x00-/:-@\[-^`{-\x9f]"
_LABEL = rf"{_LETTER}(?:[^\x00-,./:-@\[-^`{{-\x9f]*{_LETTER})?"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"
_LITERAL = r"\[[A-Za-z0-9:.\-]+\]"
_ROUTE = rf"(?:@{_DOMAIN},)*@{_DOMAIN}:"

_MAILBOX = re.compile(rf"(?P<local>{_ATOM}|{_QUOTED})@(?P<domain>{_DOMAIN}|{_LITERAL})")
_PATH = re.compile(rf"<(?:{_ROUTE})?(?P<mailbox>(?:{_ATOM}|{_QUOTED})@(?:{_DOMAIN}|{_LITERAL}))>")
_POSTMASTER = re.compile(r"<(postmaster)>", re.IGNORECASE)
_EHLO = re.compile(r"[A-Za-z0-9_.\-]{1,255}|\[[A-Za-z0-9:.\-]{1,255}\]")
_PARAMETER = re.compile(r"(?P<keyword>[A-Za-z0-9][A-Za-z0-9\-]*)(?:=(?P<value>[^\x00-\x20=\x7f-\x9f]+))?")
_CHUNK = re.compile(r"(?P<size>[0-9]{1,20})(?: +(?P<last>LAST))?", re.IGNORECASE)


class Command(NamedTuple):
    """A command line in two: the verb in capitals, and the rest as given."""

    verb: str
    rest: str


class Path(NamedTuple):
    """A forward or reverse path: its text without brackets and route, and the address; None for the null sender."""

    text: str
    address: Address | None

    @property
    def needs_smtputf8(self) -> bool:
        return not self.text.isascii()


def parse_command(line: str) -> Command:
    verb, _, rest = line.partition(" ")
    return Command(verb.upper(), rest.strip(" \t"))


@lru_cache(maxsize=1_024)  # a support address gets much of the mail
def parse_mailbox(text: str) -> Address | None:
    """`local@domain`, with a quoted local part unquoted; None where it is no mailbox or too long."""
    match = _MAILBOX.fullmatch(text)
    if match is None:
        return None
    local_part = match["local"]
    if local_part.startswith('"'):
        local_part = unquote(local_part)
    too_long = (
        len(local_part.encode()) > LOCAL_PART_BYTES_MAX
        or len(match["domain"].encode()) > DOMAIN_BYTES_MAX
        or len(text.encode()) + 2 > PATH_BYTES_MAX
    )
    return None if too_long or not local_part else Address(local_part, match["domain"])


def parse_sender(text: str) -> tuple[Path, str] | None:
    """The reverse-path at the head of MAIL's argument after `FROM:`, and what follows it; `<>` is the null sender."""
    if text.startswith("<>"):
        return Path("", None), text[2:]
    return _parse_path(text)


def parse_recipient(text: str) -> tuple[Path, str] | None:
    """The forward-path of RCPT after `TO:`, and what follows; `<postmaster>` needs no domain (RFC 5321 §4.5.1)."""
    match = _POSTMASTER.match(text)
    if match:
        return Path(match[1], Address(match[1], "")), text[match.end() :]
    return _parse_path(text)


def _parse_path(text: str) -> tuple[Path, str] | None:
    # A source route is read and ignored (RFC 5321 §4.1.1.3).
    match = _PATH.match(text)
    if match is None:
        return None
    address = parse_mailbox(match["mailbox"])
    return (Path(match["mailbox"], address), text[match.end() :]) if address else None


def parse_parameters(text: str) -> dict[str, str] | None:
    """` KEY=VALUE KEY` by keyword in capitals; None when malformed or given twice."""
    if not text:
        return {}
    if not text.startswith(" "):
        return None
    parameters: dict[str, str] = {}
    for word in filter(None, text.split(" ")):
        match = _PARAMETER.fullmatch(word)
        if match is None or match["keyword"].upper() in parameters:
            return None
        parameters[match["keyword"].upper()] = match["value"] or ""
    return parameters


def parse_chunk(text: str) -> tuple[int, bool] | None:
    """BDAT's argument: how many octets follow, and whether they are the last (RFC 3030 §2)."""
    match = _CHUNK.fullmatch(text)
    return (int(match["size"]), match["last"] is not None) if match else None


def is_ehlo_name(text: str) -> bool:
    """A domain, however odd, or an address literal (RFC 5321 §4.1.4): safe to repeat in a Received field."""
    return _EHLO.fullmatch(text) is not None
