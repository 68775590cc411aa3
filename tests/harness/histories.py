"""Clients on all nodes at a time, a record of what each called and heard, and what a sequential Readdress would say."""

import http.client
import json
import random
import threading
import time
import uuid
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from math import inf
from typing import Any, NamedTuple

from harness.http_client import HttpAnswer, HttpClient
from harness.linearizability import Call
from harness.process import DEV_INSTANCE, ServiceProcess
from harness.smtp_client import SmtpClient

ASSOCIATE, DISASSOCIATE, CREATE = "associate", "disassociate", "create"
DESCRIBE, DELETE, MAIL = "describe", "delete", "mail"
OK, REFUSED = "ok", "refused"
PATH = f"/email-addresses/{DEV_INSTANCE}"


class State(NamedTuple):
    """Who is published under which id, which alias has which primary, and what was answered to a token."""

    ids: frozenset[tuple[str, str]] = frozenset()
    relations: frozenset[tuple[str, str]] = frozenset()
    tokens: frozenset[tuple[str, Any]] = frozenset()


def apply(state: Hashable, operation: str, arguments: tuple[Any, ...]) -> tuple[Any, State]:
    """The model: contract 2 and 3, one call at a time."""
    assert isinstance(state, State)
    if operation in (CREATE, ASSOCIATE, DISASSOCIATE):
        *rest, token = arguments
        stored = dict(state.tokens).get(token)
        if stored is not None:
            return stored, state
        answer, after = _CHANGES[operation](state, *rest)
        if answer[0] == OK:
            after = after._replace(tokens=after.tokens | {(token, answer)})
        return answer, after
    return _CALLS[operation](state, *arguments)


def _create(state: State, text: str, address_id: str) -> tuple[Any, State]:
    if text in dict(state.ids):
        return ("DuplicateResourceException",), state
    return (OK, address_id), state._replace(ids=state.ids | {(text, address_id)})


def _associate(state: State, primary_id: str, alias_id: str) -> tuple[Any, State]:
    if not {primary_id, alias_id} <= set(dict(state.ids).values()):
        return ("ResourceNotFoundException",), state
    if {primary_id, alias_id} & {end for relation in state.relations for end in relation}:
        return ("ResourceConflictException",), state
    return (OK,), state._replace(relations=state.relations | {(alias_id, primary_id)})


def _disassociate(state: State, primary_id: str, alias_id: str) -> tuple[Any, State]:
    if (alias_id, primary_id) not in state.relations:
        return ("ResourceNotFoundException",), state
    return (OK,), state._replace(relations=state.relations - {(alias_id, primary_id)})


def _describe(state: State, address_id: str) -> tuple[Any, State]:
    if address_id not in dict(state.ids).values():
        return ("ResourceNotFoundException",), state
    return (OK, tuple(alias for alias, primary in state.relations if primary == address_id)), state


def _delete(state: State, address_id: str) -> tuple[Any, State]:
    gone = {pair for pair in state.ids if pair[1] == address_id}
    if not gone:
        return ("ResourceNotFoundException",), state
    relations = frozenset(relation for relation in state.relations if address_id not in relation)
    return (OK,), state._replace(ids=state.ids - gone, relations=relations)


def _mail(state: State, text: str) -> tuple[Any, State]:
    address_id = dict(state.ids).get(text)
    if address_id is None:
        return REFUSED, state
    return frozenset({address_id, dict(state.relations).get(address_id, address_id)}), state


_CHANGES: dict[str, Callable[..., tuple[Any, State]]] = {
    CREATE: _create, ASSOCIATE: _associate, DISASSOCIATE: _disassociate,
}  # fmt: skip
_CALLS: dict[str, Callable[..., tuple[Any, State]]] = {DESCRIBE: _describe, DELETE: _delete, MAIL: _mail}


@dataclass
class Node:
    """A process, or its successor once it was killed."""

    service: ServiceProcess


@dataclass
class Group:
    """A few addresses that only its own clients know, and the history of them."""

    texts: list[str]
    calls: list[Call] = field(default_factory=list)
    mails: list[tuple[float, float, str, str]] = field(default_factory=list)  # began, ended, text, message id
    ids: dict[str, str] = field(default_factory=dict)  # the last known, by text
    sent: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)  # changes with tokens, to be sent again
    id_of_token: dict[str, str] = field(default_factory=dict)

    def history(self, inboxes: dict[str, frozenset[str]]) -> list[Call]:
        """With mails as calls whose answers are the inboxes they came to, and creates that know their ids."""
        mails = [
            Call(began, ended, MAIL, (text,), inboxes.get(message_id, frozenset()))
            for began, ended, text, message_id in self.mails
        ]
        return [self._with_id(call) for call in self.calls] + mails

    def _with_id(self, call: Call) -> Call:
        if call.operation != CREATE:
            return call
        text, token = call.arguments
        return call._replace(arguments=(text, self.id_of_token.get(token, f"?{token}"), token))


class Client(threading.Thread):
    """Calls one node after the other about one group's addresses, until it is told to stop."""

    def __init__(self, nodes: list[Node], group: Group, stop: threading.Event, seed: int) -> None:
        super().__init__(name=f"client {seed}")
        self._nodes = nodes
        self._group = group
        self._stopping = stop
        self._choices = random.Random(seed)
        self._https: dict[str, HttpClient] = {}
        self._smtps: dict[str, SmtpClient] = {}
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._step()
        except BaseException as error:  # noqa: BLE001 - raised again by who waits for the thread
            self.failure = error
        finally:
            for client in self._https.values():
                client.close()
            for smtp in self._smtps.values():
                smtp.close()

    def _step(self) -> None:
        group, choose = self._group, self._choices
        missing = [text for text in group.texts if text not in group.ids]
        kind = choose.choices((MAIL, ASSOCIATE, DISASSOCIATE, DESCRIBE, DELETE, "again"), (30, 20, 20, 15, 3, 8))[0]
        if missing and choose.random() < 0.5:
            self._change(CREATE, (choose.choice(missing),))
        elif kind == MAIL:
            self._mail(choose.choice(group.texts))
        elif kind == "again" and group.sent:
            operation, arguments = choose.choice(group.sent[-20:])
            self._call(operation, arguments)
        elif len(group.ids) >= 2 and kind in (ASSOCIATE, DISASSOCIATE):
            self._change(kind, tuple(choose.sample(sorted(group.ids.values()), 2)))
        elif group.ids and kind in (DESCRIBE, DELETE):
            text, address_id = choose.choice(sorted(group.ids.items()))
            if kind == DELETE:
                group.ids.pop(text, None)
            self._call(kind, (address_id,))

    def _change(self, operation: str, rest: tuple[str, ...]) -> None:
        """With a token, and again at the next nodes until there is an answer."""
        arguments = (*rest, str(uuid.uuid4()))
        self._group.sent.append((operation, arguments))
        for _ in range(100):
            if self._call(operation, arguments) is not None:
                return
            time.sleep(0.05)
        raise AssertionError(f"no node answers {operation}")

    def _call(self, operation: str, arguments: tuple[Any, ...]) -> Any:
        """The answer, or None where there is none; a 429 says that nothing has happened, and is forgotten."""
        service = self._choices.choice(self._nodes).service
        began = time.monotonic()
        try:
            answer = _send(self._http(service), operation, arguments)
        except (OSError, http.client.HTTPException):
            self._https.pop(service.http).close()
            answer = None
        ended = time.monotonic()
        if answer is not None and answer.status == 429:
            return None
        if answer is None or answer.status >= 500:
            assert answer is None or answer.status == 503, answer
            self._group.calls.append(Call(began, inf, operation, arguments))
            return None
        said = _read(operation, answer)
        self._group.calls.append(Call(began, ended, operation, arguments, said))
        if operation == CREATE and said[0] == OK:
            self._group.id_of_token[arguments[-1]] = said[1]
            if self._group.sent[-1][1] == arguments or arguments[0] not in self._group.ids:
                self._group.ids[arguments[0]] = said[1]
        return said

    def _mail(self, text: str) -> None:
        """A mail that was not accepted changes nothing, and only a refusal for good says something."""
        service = self._choices.choice(self._nodes).service
        began = time.monotonic()
        try:
            reply = self._smtp(service).mail("a@sender.example", text)
            if not reply.startswith(("250", "550")):
                self._smtps.pop(service.smtp).close()
            elif not reply.startswith("250"):
                self._smtp(service).say("RSET")
        except (OSError, AssertionError):
            if service.smtp in self._smtps:
                self._smtps.pop(service.smtp).close()
            return
        ended = time.monotonic()
        if reply.startswith("250 2.0.0 accepted "):
            self._group.mails.append((began, ended, text, reply.split()[-1]))
        elif reply.startswith("550"):
            self._group.calls.append(Call(began, ended, MAIL, (text,), REFUSED))
        else:
            assert reply == "" or reply[0] == "4", reply

    def _http(self, service: ServiceProcess) -> HttpClient:
        if service.http not in self._https:
            self._https[service.http] = HttpClient(service.http_address)
        return self._https[service.http]

    def _smtp(self, service: ServiceProcess) -> SmtpClient:
        if service.smtp not in self._smtps:
            client = self._smtps[service.smtp] = SmtpClient(service.smtp_address, greeting=False)
            client.read_reply()
            assert client.say("EHLO client.example").startswith("250"), "it is on its way down"
        return self._smtps[service.smtp]


def _send(client: HttpClient, operation: str, arguments: tuple[Any, ...]) -> HttpAnswer:
    if operation == CREATE:
        text, token = arguments
        return client.call("PUT", PATH, {"EmailAddress": text, "ClientToken": token})
    if operation in (ASSOCIATE, DISASSOCIATE):
        primary_id, alias_id, token = arguments
        body = {"AliasConfiguration": {"EmailAddressId": alias_id}, "ClientToken": token}
        return client.call("POST", f"{PATH}/{primary_id}/{operation}-alias", body)
    return client.call("GET" if operation == DESCRIBE else "DELETE", f"{PATH}/{arguments[0]}")


def _read(operation: str, answer: HttpAnswer) -> tuple[Any, ...]:
    if answer.status != 200:
        return (answer.code,)
    if operation == CREATE:
        return (OK, answer.json["EmailAddressId"])
    if operation == DESCRIBE:
        aliases = json.loads(answer.body)["AliasConfigurations"]
        return (OK, tuple(alias["EmailAddressId"] for alias in aliases))
    return (OK,)
