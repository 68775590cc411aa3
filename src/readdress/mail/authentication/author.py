"""The Author Domain: the one domain in a message's one From field (RFC 9989 §5.3.1).

A From field that does not have exactly one raises AuthorProblem; nothing is guessed, since a reader's program may guess
otherwise.
"""

from readdress.address import fold_domain
from readdress.mail.authentication.message import Message
from readdress.mail.authentication.resolver import is_dns_name

FROM_BYTES_MAX = 16_384


class AuthorProblem(Exception):
    """Why a message has no Author Domain."""


def find_author_domain(message: Message) -> str:
    """In lower-case A-labels. Raises AuthorProblem."""
    fields = message.named(b"from")
    if len(fields) != 1:
        raise AuthorProblem("no From field" if not fields else f"{len(fields)} From fields")
    if len(fields[0].raw) > FROM_BYTES_MAX:
        raise AuthorProblem("the From field is too long")
    text = fields[0].unfolded.decode("utf-8", "replace")
    domains = {_domain(mailbox) for mailbox in _mailboxes(text)}
    if len(domains) != 1:
        raise AuthorProblem("no address in From" if not domains else "addresses of several domains in From")
    return domains.pop()


def _domain(mailbox: str) -> str:
    """Of `words <local@domain>` or of `local@domain`, as `_mailboxes` leaves them."""
    words, bracket, address = mailbox.partition("<")
    if bracket:
        address, bracket, rest = address.partition(">")
        if not bracket or rest.strip():
            raise AuthorProblem("an address in From has no end")
        address = address.rpartition(":")[2] if address.startswith("@") else address  # RFC 5322 §4.4, a route
    else:
        address = words
    local_part, at, domain = address.rpartition("@")
    domain = fold_domain("".join(domain.split()))
    if not at or not local_part.strip() or "@" in local_part or not is_dns_name(domain) or domain.startswith("["):
        raise AuthorProblem("an address in From can't be read")
    return domain


def _mailboxes(value: str) -> list[str]:
    """The list's parts: comments gone, a letter in place of each quoted string, a group's name left out."""
    parts, part = [], list[str]()
    in_brackets = False
    at = 0
    while at < len(value):
        character = value[at]
        if character == "(" and not in_brackets:
            at = _behind_comment(value, at)
            continue
        if character == '"':
            at = _behind_quotes(value, at)
            part.append("q")
            continue
        in_brackets = character == "<" or (in_brackets and character != ">")
        if character in ",;" and not in_brackets:
            parts.append("".join(part))
            part = []
        elif character == ":" and not in_brackets:
            part = []
        else:
            part.append(character)
        at += 1
    parts.append("".join(part))
    return [text for text in parts if text.strip()]


def _behind_comment(value: str, at: int) -> int:
    depth = 0
    while at < len(value):
        if value[at] == "\\":
            at += 1
        elif value[at] == "(":
            depth += 1
        elif value[at] == ")":
            depth -= 1
            if not depth:
                return at + 1
        at += 1
    raise AuthorProblem("a comment in From has no end")


def _behind_quotes(value: str, at: int) -> int:
    at += 1
    while at < len(value):
        if value[at] == "\\":
            at += 1
        elif value[at] == '"':
            return at + 1
        at += 1
    raise AuthorProblem("quotes in From have no end")
