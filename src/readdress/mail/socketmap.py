"""The directory as Postfix asks for it: the maps `alias`, `mailbox` and `domain` over socketmap_table(5).

Nothing is cached: an answer is the directory's at this instant. What the directory does not know is NOTFOUND, however
odd the key. What we can't look up now is TEMP, and Postfix defers the mail; what only the operator can mend is PERM.
Neither is ever NOTFOUND, for that would bounce good mail.
"""

import asyncio
import logging
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple, TypeAlias

from readdress.address import Address, fold_domain, split_address
from readdress.directory import routing, settings
from readdress.mail.netstring import NetstringError, NetstringReader, NetstringTooLong, encode_netstring
from readdress.smtp import grammar, reply
from readdress.smtp.server import BACKLOG, UNIX_OPTIONS, UNIX_PEER
from readdress.store.database import Database, StoreError, Transaction

log = logging.getLogger("readdress.socketmap")

# The longest path of RFC 5321 §4.5.3.1.3 has 256 octets. Postfix itself takes 100,000 bytes.
REQUEST_BYTES_MAX = 4_096

# RFC 5322 §3.2.3 and, beyond ASCII, RFC 6532 §3.2: what needs no quotes in a list of addresses.
_ATOM = r"[^\x00-\x20\"(),.:;<>@\[\\\]\x7f]+"
_DOT_ATOM = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_QUOTED = re.compile(r'(["\\])')


class Answer(NamedTuple):
    """A reply of the protocol; the text of OK is data, that of the others is for the log of who asks."""

    status: Literal["OK", "NOTFOUND", "TEMP", "PERM"]
    text: str = ""

    def encode(self) -> bytes:
        return encode_netstring(f"{self.status} {self.text}".encode())


NOT_FOUND = Answer("NOTFOUND")
STORE_TROUBLE = Answer("TEMP", "cannot look up now, try again later")
TOO_MANY_CONNECTIONS = Answer("TEMP", "too many connections, try again later")
SHUTTING_DOWN = Answer("TEMP", "the service is shutting down, try again later")
TOO_LONG = Answer("PERM", f"a request has {REQUEST_BYTES_MAX} bytes at most")
NO_KEY = Answer("PERM", "a request is the name of a map, a space and a key")
NO_ENVELOPE = Answer("PERM", "mail for the key goes to an address that no envelope can name")


def find_destinations(tx: Transaction, key: str) -> Answer:
    """The map `alias`, for virtual_alias_maps: every address that mail for the key goes to, itself first if it is one.

    An answer's addresses are in one spelling each, and asked again give themselves: so Postfix's expansion ends.
    """
    recipient = parse_key(key)
    if recipient is None:
        return NOT_FOUND
    route = routing.route(tx, recipient)
    if not _is_taken(route):
        return _refuse(route.reply)
    addresses = [_address(destination, recipient) for destination in route.destinations]
    texts = [text for text in map(encode_address, addresses) if text is not None]
    return Answer("OK", ", ".join(texts)) if len(texts) == len(addresses) else NO_ENVELOPE


def find_mailbox(tx: Transaction, key: str) -> Answer:
    """The map `mailbox`, for virtual_mailbox_maps: the id of the inbox that the key is, or leads to first."""
    recipient = parse_key(key)
    if recipient is None:
        return NOT_FOUND
    route = routing.route(tx, recipient)
    if not _is_taken(route):
        return _refuse(route.reply)
    return Answer("OK", route.destinations[0].address_id)


def find_domain(tx: Transaction, key: str) -> Answer:
    """The map `domain`, for virtual_mailbox_domains: whether a domain has an address of ours."""
    postmaster = grammar.parse_mailbox(f"{routing.POSTMASTER}@{key}")
    # RFC 5321 §4.5.1: whatever becomes of mail for its postmaster, it is never that the domain is not ours.
    if postmaster is None or routing.route(tx, postmaster).reply == reply.NOT_OUR_DOMAIN:
        return NOT_FOUND
    return Answer("OK", fold_domain(key))


Map: TypeAlias = Callable[[Transaction, str], Answer]

MAPS: dict[str, Map] = {"alias": find_destinations, "mailbox": find_mailbox, "domain": find_domain}
NO_MAP = Answer("PERM", f"there is no such map; the maps are {', '.join(MAPS)}")


def parse_key(key: str) -> Address | None:
    """The address that a key names, quoted as in an envelope or not, as Postfix asks next; None where it names none.

    A part of an address (`user`, `@domain`) is none: the whole address is always answered for.
    """
    text = encode_address(split_address(key))
    return grammar.parse_mailbox(text) if text else None


def encode_address(address: Address) -> str | None:
    """The address as a list of addresses has it (RFC 5322 §3.4.1); None where RCPT would not take it."""
    local_part = address.local_part
    if not _DOT_ATOM.fullmatch(local_part):
        local_part = '"' + _QUOTED.sub(r"\\\1", local_part) + '"'
    text = f"{local_part}@{fold_domain(address.domain)}"
    return text if grammar.parse_mailbox(text) else None


def _address(destination: routing.Destination, recipient: Address) -> Address:
    """An inbox's address; the postmaster whom nobody has published keeps the domain that was asked for."""
    return recipient if destination == routing.POSTMASTER_INBOX else split_address(destination.next_hop)


def _is_taken(route: routing.Route) -> bool:
    """Postfix has no way to take a mail and throw it away: an address that does so is refused there."""
    return any(destination.transport != settings.DISCARD for destination in route.destinations)


def _refuse(refusal: reply.Reply) -> Answer:
    is_temporary = 400 <= refusal.code < 500
    return Answer("TEMP", str(refusal)) if is_temporary else NOT_FOUND


class SocketmapServer:
    """Every connection of one listening socket."""

    def __init__(self, database: Database, *, connections_max: int, request_s: float, drain_s: float) -> None:
        """A connection is closed when it sends no whole request for `request_s`."""
        self._database = database
        self._connections_max = connections_max
        self._request_s = request_s
        self._drain_s = drain_s
        self._is_draining = False
        self._listeners: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle: set[asyncio.Task[None]] = set()  # those that wait for a request

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Serve who comes to these, which listen already."""
        for listening in sockets:
            begin: Callable[..., Awaitable[asyncio.Server]] = asyncio.start_server
            if listening.family == socket.AF_UNIX:
                begin = partial(asyncio.start_unix_server, **UNIX_OPTIONS)
            listener = await begin(self._converse, sock=listening, limit=REQUEST_BYTES_MAX, backlog=BACKLOG)
            self._listeners.append(listener)

    @property
    def connections(self) -> int:
        return len(self._tasks)

    async def stop(self) -> None:
        """No new connections; who waits is let go, a request in hand is answered, within `drain_s`."""
        self._is_draining = True
        for listener in self._listeners:
            listener.close()
        for task in self._idle:
            task.cancel()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=self._drain_s)
            for task in late:
                task.cancel()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self._is_draining or len(self._tasks) >= self._connections_max:
            writer.write((SHUTTING_DOWN if self._is_draining else TOO_MANY_CONNECTIONS).encode())
            writer.close()
            return
        self._tasks.add(task)
        try:
            await self._serve(reader, writer, task)
        except NetstringError as error:
            peer = writer.get_extra_info("peername")
            log.warning("%s sent no request: %s", peer[0] if isinstance(peer, tuple) else UNIX_PEER, error)
            if isinstance(error, NetstringTooLong):
                writer.write(TOO_LONG.encode())
        except TimeoutError:
            writer.transport.abort()
        except OSError:  # the peer has gone
            pass
        except asyncio.CancelledError:
            if not self._is_draining:
                raise
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, task: "asyncio.Task[None]"
    ) -> None:
        """Answer one request after the other. Bytes that come one by one buy no time."""
        loop = asyncio.get_running_loop()
        requests = NetstringReader(bytes_max=REQUEST_BYTES_MAX)
        deadline = loop.time() + self._request_s
        while not self._is_draining:
            self._idle.add(task)
            try:
                async with asyncio.timeout_at(deadline):
                    data = await reader.read(REQUEST_BYTES_MAX)
            finally:
                self._idle.discard(task)
            if not data:
                return
            requests.feed(data)
            while (request := requests.next()) is not None:
                writer.write((await self._answer(request)).encode())
                async with asyncio.timeout(self._request_s):
                    await writer.drain()  # a peer that asks without reading our answers
                await asyncio.sleep(0)  # others have their turn between two of many that came at once
                deadline = loop.time() + self._request_s

    async def _answer(self, request: bytes) -> Answer:
        name, space, key = request.partition(b" ")
        if not space:
            return NO_KEY
        look_up = MAPS.get(name.decode("ascii", "replace"))
        if look_up is None:
            return NO_MAP
        try:
            text = key.decode()
        except UnicodeDecodeError:
            return NOT_FOUND
        try:
            return await self._database.read(lambda tx: look_up(tx, text))
        except StoreError:
            log.warning("cannot look up", exc_info=True)
        except Exception:
            log.exception("a look-up failed")
        return STORE_TROUBLE
