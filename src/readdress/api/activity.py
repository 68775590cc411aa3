"""Our own operations: what has happened in an instance and to an address, and how the service fares."""

from datetime import datetime
from statistics import median
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from readdress.api import nodes, paging, recent
from readdress.api.access import Caller
from readdress.api.idempotency import sql as audit_sql
from readdress.api.operation import Kind, Operations
from readdress.api.shapes import Answer, EmailAddressId, InstanceId, MessageId, Request, Shape
from readdress.clock import first_id, iso_8601, ms_of_datetime, ms_of_id
from readdress.directory import addresses, aliases, instances
from readdress.errors import InvalidParameterException
from readdress.store.database import Transaction

operations = Operations()

_INSTANCE = "/_readdress/instances/{InstanceId}"
PAGE_DEFAULT = 50
MINUTES: Final = 60
# Rows of all instances that one answer looks at, so that its cost has a bound in a busy database.
EXAMINED_MAX: Final = 2_000
FLOW_MAX: Final = 10_000
COUNTED_MAX: Final = 20_000
HISTORY_MAX: Final = 100
DETAIL_MAX: Final = 1_000  # characters
MS_PER_MINUTE: Final = 60_000

CHANGED = "CHANGED"
RECEIVED = "RECEIVED"
ATTEMPTED = "ATTEMPTED"
# After every id, and after every time.
_LAST_ID = "g"
_LAST_MS = 1 << 62
# A mail or call has its id when it begins, and its time when it is stored.
_SLOWEST_MS: Final = 600_000


class ListEventsRequest(Request):
    """All events, or those that are about an address or a message, of one kind, from Since on, before Until.

    A page may be short, or empty, and yet have a NextToken: what is not asked for lies between.
    """

    instance_id: InstanceId
    email_address_id: EmailAddressId | None = None
    message_id: MessageId | None = None
    event: Literal["CHANGED", "RECEIVED", "ATTEMPTED"] | None = None
    since: Annotated[datetime, Meta(tz=True)] | None = None
    until: Annotated[datetime, Meta(tz=True)] | None = None
    max_results: Annotated[int, Meta(ge=1, le=100)] | None = None
    next_token: Annotated[str, Meta(min_length=1, max_length=2500)] | None = None


class Event(Shape):
    """CHANGED by a call of the API, RECEIVED as a mail, or ATTEMPTED as a try to deliver one; members as they apply."""

    timestamp: str
    event: str
    detail: str
    operation: str | None = None
    request_id: str | None = None
    access_key_id: str | None = None
    message_id: str | None = None
    email_address_ids: list[str] | None = None


class ListEventsAnswer(Answer):
    events: list[Event]
    next_token: str | None = None


class ActivityRequest(Request):
    instance_id: InstanceId
    email_address_id: EmailAddressId


class RelationChange(Shape):
    """ASSOCIATED, DISASSOCIATED, or DELETED with one of the two addresses; mail follows from Timestamp on.

    RequestId is of the call that did it; an import has none.
    """

    timestamp: str
    change: str
    alias_id: str
    primary_id: str
    request_id: str | None = None


class ActivityAnswer(Answer):
    """Mails in each of the 60 minutes from Since on; IsComplete is false where there were more than were counted."""

    since: str
    direct: list[int]
    forwarded: list[int]
    is_complete: bool
    history: list[RelationChange]


class StatusRequest(Request):
    instance_id: InstanceId


class MinuteOfMail(Shape):
    """Deliveries by what became of them: DELIVERED, QUEUED, FAILED, DISCARDED, DROPPED."""

    minute: str
    states: dict[str, int]


class SpoolGroup(Shape):
    """Deliveries that are DUE, WAITING for their time, being TRYING, or FAILED for good."""

    transport: str
    state: str
    deliveries: int
    oldest_timestamp: str


class TransportStatus(Shape):
    """Tries of the last hour, and how long the middle one of them took."""

    transport: str
    tries: int
    failures: int
    median_ms: int
    last_failure: str | None = None


class NodeStatus(Shape):
    """A process of the service; it lives if it was seen within the last two minutes."""

    node_id: str
    name: str
    version: str
    started_timestamp: str
    seen_timestamp: str
    is_alive: bool


class StatusAnswer(Answer):
    """Mail has the last 60 minutes, oldest first; IsComplete is false where there were more than were counted."""

    mail: list[MinuteOfMail]
    is_complete: bool
    spool: list[SpoolGroup]
    transports: list[TransportStatus]
    nodes: list[NodeStatus]


@operations.declare(
    f"GET {_INSTANCE}/events?emailAddressId={{EmailAddressId}}&messageId={{MessageId}}&event={{Event}}"
    "&since={Since}&until={Until}&maxResults={MaxResults}&nextToken={NextToken}",
    kind=Kind.SCAN,
    resources=["instance/{instance_id}"],
)
def list_events(tx: Transaction, caller: Caller, request: ListEventsRequest) -> ListEventsAnswer:
    """What happened in the instance, the newest first: changes, mails and tries to deliver them, on one line."""
    instances.get(tx, account=caller.scope.account, instance_id=request.instance_id)
    page = request.max_results or PAGE_DEFAULT
    wanted = _Wanted.of(request)
    query = ("events", request.instance_id, *wanted)
    token = paging.decode_token(request.next_token, *query)
    place = _Place.parse(token) if token is not None else wanted.begin()
    sources = [
        _read_changes(tx, caller, request.instance_id, place.change)
        if wanted.has(CHANGED)
        else _Source([], place.change, 0),
        _read_arrivals(tx, request.instance_id, place.message)
        if wanted.has(RECEIVED)
        else _Source([], place.message, 0),
        _read_tries(tx, request.instance_id, place.attempt) if wanted.has(ATTEMPTED) else _Source([], place.attempt, 0),
    ]
    sources = [wanted.choose(source) for source in sources]
    # Behind the time up to which one source has looked, nothing can be told yet of the others either.
    horizon_ms = max(source.floor_ms for source in sources)
    told = sorted((entry for source in sources for entry in source.entries), key=lambda entry: -entry.at_ms)
    shown = [entry for entry in told if entry.at_ms >= horizon_ms][:page]
    is_last = horizon_ms == 0 and len(shown) == len(told)
    next_place = _Place(*(source.go_on(shown, was) for source, was in zip(sources, place, strict=True)))
    next_token = paging.encode_token(msgspec.json.encode(next_place).decode(), *query)
    return ListEventsAnswer(events=[entry.event for entry in shown], next_token=None if is_last else next_token)


@operations.declare(
    f"GET {_INSTANCE}/email-addresses/{{EmailAddressId}}/activity",
    kind=Kind.SCAN,
    resources=["instance/{instance_id}/email-address/{email_address_id}"],
)
def get_email_address_activity(tx: Transaction, caller: Caller, request: ActivityRequest) -> ActivityAnswer:
    """How mail came to the address in the last hour, and how its relations changed."""
    address = addresses.get(
        tx, account=caller.scope.account, instance_id=request.instance_id, address_id=request.email_address_id
    )
    since_ms = tx.now_ms - MINUTES * MS_PER_MINUTE
    flow = recent.count_flow(tx, address.id, since_ms=since_ms, minutes=MINUTES, limit=FLOW_MAX)
    changes = aliases.list_changes(tx, address.id, since_ms=0, until_ms=tx.now_ms, limit=HISTORY_MAX)
    return ActivityAnswer(
        since=iso_8601(since_ms),
        direct=flow.direct,
        forwarded=flow.forwarded,
        is_complete=flow.is_complete,
        history=[
            RelationChange(
                timestamp=iso_8601(change.at_ms),
                change=change.change,
                alias_id=change.alias_id,
                primary_id=change.primary_id,
                request_id=change.request_id or None,
            )
            for change in changes
        ],
    )


@operations.declare(f"GET {_INSTANCE}/status", kind=Kind.SCAN, resources=["instance/{instance_id}"])
def get_status(tx: Transaction, caller: Caller, request: StatusRequest) -> StatusAnswer:
    """Mail of the last hour by minute, what waits to go on, how transports fare, and which nodes live."""
    instances.get(tx, account=caller.scope.account, instance_id=request.instance_id)
    first_minute = tx.now_ms // MS_PER_MINUTE - MINUTES + 1
    since_ms = first_minute * MS_PER_MINUTE
    states: list[dict[str, int]] = [{} for _ in range(MINUTES)]
    counts, is_complete = recent.count_arrivals(tx, request.instance_id, since_ms=since_ms, examined=COUNTED_MAX)
    for minute, state, count in counts:
        if 0 <= minute - first_minute < MINUTES:
            states[minute - first_minute][state] = count
    return StatusAnswer(
        mail=[
            MinuteOfMail(minute=iso_8601((first_minute + at) * MS_PER_MINUTE), states=found)
            for at, found in enumerate(states)
        ],
        is_complete=is_complete,
        spool=[
            SpoolGroup(transport=transport, state=state, deliveries=count, oldest_timestamp=iso_8601(oldest_ms))
            for transport, state, count, oldest_ms in recent.count_waiting(
                tx, request.instance_id, examined=COUNTED_MAX
            )
        ],
        transports=_judge_transports(tx, request.instance_id, since_ms),
        nodes=[
            NodeStatus(
                node_id=node.id,
                name=node.name,
                version=node.version,
                started_timestamp=iso_8601(node.started_ms),
                seen_timestamp=iso_8601(node.seen_ms),
                is_alive=node.is_alive(tx.now_ms),
            )
            for node in nodes.list_nodes(tx)
        ],
    )


_PlaceId = Annotated[str, Meta(pattern=r"\A[^\x00]*\Z")]


class _Place(NamedTuple):
    """Where each source goes on: before this id, or time and id."""

    change: _PlaceId = _LAST_ID
    message: _PlaceId = _LAST_ID
    attempt: Annotated[str, Meta(pattern=r"\A[0-4]?\d{1,18} [^\x00]*\Z")] = f"{_LAST_MS} {_LAST_ID}"

    @classmethod
    def parse(cls, token: str) -> "_Place":
        """Raises InvalidParameterException for what ListEvents never gave."""
        try:
            return msgspec.json.decode(token, type=cls)
        except msgspec.MsgspecError:
            raise InvalidParameterException("NextToken: ListEvents did not give it. Begin again without one.") from None


class _Entry(NamedTuple):
    """`at_ms` is its place on the line of time."""

    at_ms: int
    key: str
    event: Event


class _Source(NamedTuple):
    """Entries of one kind, the newest first; `end_key` and `floor_ms` are how far it has looked, 0 at the very end."""

    entries: list[_Entry]
    end_key: str
    floor_ms: int

    def go_on(self, shown: list[_Entry], was: str) -> str:
        """Where the next page begins, after what this one has shown."""
        keys = {entry.key for entry in shown}
        own = [entry.key for entry in self.entries if entry.key in keys]
        if len(own) == len(self.entries):
            return self.end_key
        return own[-1] if own else was


class _Wanted(NamedTuple):
    """What is asked for; "" stands for anything."""

    address_id: str
    message_id: str
    event: str
    since_ms: int
    until_ms: int

    @classmethod
    def of(cls, request: ListEventsRequest) -> "_Wanted":
        return cls(
            request.email_address_id or "",
            request.message_id or "",
            request.event or "",
            ms_of_datetime(request.since) if request.since else 0,
            ms_of_datetime(request.until) if request.until else _LAST_MS,
        )

    def has(self, event: str) -> bool:
        """No change of the directory is about a message."""
        return self.event in ("", event) and not (event == CHANGED and self.message_id)

    def begin(self) -> _Place:
        """Before the end of the time asked for; what is stored later has a later id."""
        if self.until_ms == _LAST_MS:
            return _Place()
        before_id = first_id(self.until_ms)
        return _Place(before_id, before_id, f"{max(self.until_ms, 0)} ")

    def choose(self, source: _Source) -> _Source:
        """What of it is wanted, each no later than the one before, so that a page is a beginning of every source.

        What came slowly is stored after what began later, and stands with that. Nothing is about an address or a
        message before it is there.
        """
        entries, at_ms = [], _LAST_MS
        for entry in source.entries:
            if self._fits(entry):
                at_ms = min(at_ms, entry.at_ms)
                entries.append(entry._replace(at_ms=at_ms))
        begins_ms = max(self.since_ms, ms_of_id(self.address_id), ms_of_id(self.message_id)) - _SLOWEST_MS
        return _Source(entries, source.end_key, source.floor_ms if source.floor_ms > begins_ms else 0)

    def _fits(self, entry: _Entry) -> bool:
        return (
            self.since_ms <= entry.at_ms < self.until_ms
            and self.address_id in ("", *(entry.event.email_address_ids or ()))
            and self.message_id in ("", entry.event.message_id)
        )


def _read_changes(tx: Transaction, caller: Caller, instance_id: str, before: str) -> _Source:
    """What was called, out of the audit."""
    rows = tx.all(audit_sql.list_audit, before_id=before, limit=EXAMINED_MAX)
    entries = []
    for request_id, at_ms, account, access_key_id, operation, detail in rows:
        if account == caller.scope.account and instance_id in detail:
            call = msgspec.json.decode(detail, type=_Call)
            if call.is_about(instance_id):
                entries.append(
                    _Entry(at_ms, request_id, _tell_change(at_ms, request_id, access_key_id, operation, call))
                )
    is_end = len(rows) < EXAMINED_MAX
    return _Source(entries, rows[-1][0] if rows else before, 0 if is_end else int(rows[-1][1]))


class _Call(msgspec.Struct, rename="pascal"):
    """What the audit keeps of a call."""

    request: dict[str, Any]
    answer: dict[str, Any] | None = None

    def is_about(self, instance_id: str) -> bool:
        """By what it names, whatever its texts say; CreateInstance names it in the answer."""
        named = self.request.get("InstanceId") or (self.answer or {}).get("Id")
        resource = f"{self.request.get('resourceArn', '')}/".partition(":instance/")[2]
        return instance_id in (named, resource.partition("/")[0])


def _tell_change(at_ms: int, request_id: str, access_key_id: str, operation: str, call: _Call) -> Event:
    request, answer = call.request, call.answer or {}
    address_ids = dict.fromkeys(
        address_id
        for address_id in (
            request.get("EmailAddressId"),
            (request.get("AliasConfiguration") or {}).get("EmailAddressId"),
            answer.get("EmailAddressId"),
            str(request.get("resourceArn", "")).rpartition("/email-address/")[2],
        )
        if address_id
    )
    members = {name: value for name, value in request.items() if name not in ("InstanceId", "ClientToken")}
    return Event(
        timestamp=iso_8601(at_ms),
        event=CHANGED,
        detail=_shorten(msgspec.json.encode(members).decode() if members else ""),
        operation=operation,
        request_id=request_id,
        access_key_id=access_key_id,
        email_address_ids=list(address_ids) or None,
    )


def _read_arrivals(tx: Transaction, instance_id: str, before: str) -> _Source:
    messages, end_key = recent.list_arrivals(tx, instance_id, before_id=before, examined=EXAMINED_MAX)
    entries = [
        _Entry(deliveries[0].received_ms, deliveries[0].message_id, _tell_arrival(deliveries))
        for deliveries in messages
    ]
    if end_key is None:
        return _Source(entries, messages[-1][0].message_id if messages else before, 0)
    return _Source(entries, end_key, ms_of_id(end_key))


def _tell_arrival(deliveries: list[recent.Arrival]) -> Event:
    first = deliveries[0]
    ways = "; ".join(
        f"{', '.join(one.recipients)} to {one.address or one.address_id} "
        f"({' and '.join(reason.reason for reason in one.reasons)}) by {one.transport}: {one.state}"
        for one in deliveries
    )
    return Event(
        timestamp=iso_8601(first.received_ms),
        event=RECEIVED,
        detail=_shorten(f"{first.subject or '(no subject)'} from <{first.sender}>: {ways}"),
        message_id=first.message_id,
        email_address_ids=[one.address_id for one in deliveries],
    )


def _read_tries(tx: Transaction, instance_id: str, before: str) -> _Source:
    before_ms, _, before_id = before.partition(" ")
    rows = recent.list_tries(tx, before=(int(before_ms), before_id), examined=EXAMINED_MAX)
    entries = [
        _Entry(one.at_ms, f"{one.at_ms} {one.delivery_id}", _tell_try(one))
        for one in rows
        if one.instance_id == instance_id
    ]
    is_end = len(rows) < EXAMINED_MAX
    end_key = f"{rows[-1].at_ms} {rows[-1].delivery_id}" if rows else before
    return _Source(entries, end_key, 0 if is_end else rows[-1].at_ms)


def _tell_try(one: recent.Try) -> Event:
    at = f" at {one.remote}" if one.remote else ""
    return Event(
        timestamp=iso_8601(one.at_ms),
        event=ATTEMPTED,
        detail=_shorten(f"try {one.number} by {one.transport}{at}, {one.duration_ms} ms: {one.outcome}: {one.reply}"),
        message_id=one.message_id,
        email_address_ids=[one.address_id] if one.address_id else None,
    )


def _judge_transports(tx: Transaction, instance_id: str, since_ms: int) -> list[TransportStatus]:
    by_transport: dict[str, list[recent.Try]] = {}
    newest = (_LAST_MS, _LAST_ID)
    for one in recent.list_tries(tx, before=newest, examined=EXAMINED_MAX, since_ms=since_ms):
        if one.instance_id == instance_id and one.transport:
            by_transport.setdefault(one.transport, []).append(one)
    return [_judge(transport, tries) for transport, tries in sorted(by_transport.items())]


def _judge(transport: str, tries: list[recent.Try]) -> TransportStatus:
    failures = [one for one in tries if one.outcome in ("TEMPORARY", "PERMANENT")]
    return TransportStatus(
        transport=transport,
        tries=len(tries),
        failures=len(failures),
        median_ms=round(median(one.duration_ms for one in tries)),
        last_failure=_shorten(failures[0].reply) if failures else None,
    )


def _shorten(text: str) -> str:
    return text if len(text) <= DETAIL_MAX else text[: DETAIL_MAX - 1] + "…"
