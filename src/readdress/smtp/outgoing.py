"""What the client is asked to send and what came of it; what can't be said safely on the wire raises ValueError here.

Every recipient has one result. Its outcome follows the class digit of the reply to it (RFC 5321 §4.2.1); whatever
else happens on the way is temporary, since trying again loses nothing and giving up would.
"""

import ipaddress
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, TypeAlias

from readdress.smtp import grammar
from readdress.smtp.session import Body, Recipient

RECIPIENTS_MAX = 10_000
ADDRESSES_MAX = 8
CREDENTIAL_BYTES_MAX = 4_096
UNIX_PATH_BYTES_MAX = 107  # what a socket address has room for

TlsPolicy: TypeAlias = Literal["none", "may", "require", "implicit"]
Stage: TypeAlias = Literal["connect", "greeting", "ehlo", "tls", "auth", "mail", "rcpt", "data", "content"]

_HOST = re.compile(r"(?!.*\.\.)[A-Za-z0-9_:](?:[A-Za-z0-9_.:%\-]{0,253}[A-Za-z0-9_:])?", re.ASCII)
_LABEL_BYTES_MAX = 63
# RFC 3461 §4: the parameters as they stand on the wire; xtext has neither spaces nor `=`.
_NOTIFY = re.compile(r"NEVER|(?:SUCCESS|FAILURE|DELAY)(?:,(?:SUCCESS|FAILURE|DELAY)){0,2}", re.IGNORECASE)
_ORIGINAL = re.compile(r"[A-Za-z0-9\-]{1,32};[^\x00-\x20=\x7f-\xa0\u2028\u2029\ud800-\udfff]{1,500}")
_ENVELOPE_ID = re.compile(r"[!-<>-~]{1,100}")
_RETURN = re.compile(r"FULL|HDRS", re.IGNORECASE)


class Outcome(Enum):
    DELIVERED = "delivered"
    TEMPORARY = "temporary"
    PERMANENT = "permanent"


@dataclass(frozen=True)
class RecipientResult:
    """What came of one recipient.

    `reply` is the remote's where `is_remote`, else our own words: one line of 500 characters at most without control
    characters. `enhanced` is an RFC 3463 status of the outcome's class. `stage` is how far the conversation had come;
    a temporary result before `mail` says nothing about the mail, so another host of the domain may be asked at once.
    """

    outcome: Outcome
    reply: str
    enhanced: str
    stage: Stage
    is_remote: bool


@dataclass(frozen=True)
class SendResult:
    """A result for each recipient, in their order, and the connection: the last one, if TLS took two attempts.

    `address` is what was connected to, `192.0.2.1:25` or a path; empty if nothing was. `tls` is its version, or None.
    Unless `has_dsn`, what RFC 3461 asks about notices was not passed on: the sender is owed a "relayed" one (§5.2.2).
    """

    recipients: tuple[RecipientResult, ...]
    host: str
    address: str
    tls: str | None
    has_dsn: bool


class Failure(Exception):
    """The end of a connection; what it says holds for every recipient that has no answer yet."""

    def __init__(
        self, enhanced: str, reply: str, *, outcome: Outcome = Outcome.TEMPORARY, is_remote: bool = False
    ) -> None:
        super().__init__(reply)
        self.enhanced = enhanced
        self.reply = reply
        self.outcome = outcome
        self.is_remote = is_remote


class TlsFailure(Failure):
    """The handshake failed; where TLS is no condition, a fresh connection may do without."""


@dataclass(frozen=True)
class ClientTimeouts:
    """How long a host may keep us waiting (RFC 5321 §4.5.3.2), in seconds.

    `connect_s` is for each address. `total_s` is for one mail from the first packet on, whatever drips meanwhile:
    a lease on a delivery has to be longer. `quit_s` is for the goodbye, when all is said.
    """

    connect_s: float = 30
    greeting_s: float = 300
    command_s: float = 300
    data_init_s: float = 120
    block_s: float = 180
    final_s: float = 600
    total_s: float = 3_600
    quit_s: float = 5

    def __post_init__(self) -> None:
        if min(vars(self).values()) <= 0:
            raise ValueError("a time-out has to be greater than 0 s")


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where to connect, and what protects the connection.

    `addresses` are IP addresses of the host, tried in their order; without them the system resolves its name.
    TLS by policy: `may` is opportunistic and verifies nothing (RFC 7435); `require` (STARTTLS) and `implicit` verify
    certificate and name, by the system's authorities or those of `ca_file`, unless `verify` is False.
    """

    host: str = ""
    port: int = 25
    addresses: tuple[str, ...] = ()
    unix_path: str = ""
    lmtp: bool = False
    tls: TlsPolicy = "may"
    verify: bool = True
    ca_file: str = ""
    username: str = ""
    password: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        _check_host(self)
        if self.unix_path and (len(self.unix_path.encode()) > UNIX_PATH_BYTES_MAX or "\0" in self.unix_path):
            raise ValueError(f"the path of a socket has at most {UNIX_PATH_BYTES_MAX} octets and no NUL")
        if self.addresses and len(self.addresses) > ADDRESSES_MAX:
            raise ValueError(f"a host has at most {ADDRESSES_MAX} addresses")
        for address in self.addresses:
            ipaddress.ip_address(address)
        for credential in (self.username, self.password):
            # NUL stands between the two in AUTH PLAIN (RFC 4616 §2).
            if "\0" in credential or len(credential.encode()) > CREDENTIAL_BYTES_MAX:
                raise ValueError(f"a user name or password has at most {CREDENTIAL_BYTES_MAX} octets and no NUL")
        if self.password and not self.username:
            raise ValueError("a password needs a user name")


def _check_host(target: Target) -> None:
    needs_name = target.tls in {"require", "implicit"} and target.verify
    if not target.host and (needs_name or not target.unix_path):
        raise ValueError("a host is needed: to connect to, or as the name in its certificate")
    if target.host and not (
        _HOST.fullmatch(target.host) and all(0 < len(label) <= _LABEL_BYTES_MAX for label in target.host.split("."))
    ):
        raise ValueError(f"{target.host!r} is no host: a name in A-labels or an IP address without brackets")
    if not 0 < target.port <= 65_535:
        raise ValueError(f"{target.port} is no port")


@dataclass(frozen=True, kw_only=True)
class OutgoingMail:
    """One message and its envelope; `ret`, `envelope_id`, and what a recipient asks are RFC 3461's, as given.

    `content` gives the message in pieces of at most 256 KiB and may be asked for it again. It ends lines with CRLF,
    unless the body is BINARYMIME. `size_bytes` is what SIZE declares (RFC 1870); when less comes than was declared,
    something is missing, and the message is not sent. `smtputf8` says that the message needs the extension.
    """

    sender: str
    recipients: Sequence[Recipient]
    content: Callable[[], AsyncIterator[bytes]]
    size_bytes: int
    body: Body = "7BIT"
    smtputf8: bool = False
    ret: str = ""
    envelope_id: str = ""

    def __post_init__(self) -> None:
        if not 0 < len(self.recipients) <= RECIPIENTS_MAX:
            raise ValueError(f"a mail has 1 to {RECIPIENTS_MAX} recipients")
        if self.size_bytes < 0:
            raise ValueError("a size is not negative")
        if self.sender and grammar.parse_mailbox(self.sender) is None:
            raise ValueError("the sender is no mailbox")
        _check_parameter("RET", self.ret, _RETURN)
        _check_parameter("ENVID", self.envelope_id, _ENVELOPE_ID)
        for recipient in self.recipients:
            _check_parameter("NOTIFY", recipient.notify, _NOTIFY)
            _check_parameter("ORCPT", recipient.original, _ORIGINAL)
            text = recipient.path.text
            if grammar.parse_mailbox(text) is None and text.lower() != "postmaster":  # RFC 5321 §4.5.1
                raise ValueError("a recipient is no mailbox")
        paths = [self.sender, *(recipient.path.text for recipient in self.recipients)]
        if not self.smtputf8 and not all(map(str.isascii, paths)):
            raise ValueError("an address outside ASCII needs SMTPUTF8")
        for path in paths:
            path.encode()  # a lone surrogate is a UnicodeEncodeError, which is a ValueError


def _check_parameter(keyword: str, value: str, pattern: re.Pattern[str]) -> None:
    if value and not pattern.fullmatch(value):
        raise ValueError(f"not a value of {keyword} (RFC 3461 §4)")
