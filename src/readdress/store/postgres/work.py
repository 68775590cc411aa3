"""A work on its way: ordinary code in a greenlet, which stops at each question and goes on with the answer."""

from typing import Any

from greenlet import getcurrent, greenlet

from readdress.store.database import Work
from readdress.store.postgres.connection import Result
from readdress.store.postgres.dialect import Ask
from readdress.store.postgres.transaction import PostgresTransaction


class RunningWork:
    """`question` is what it waits for, None once it has ended with `value`. What the work raises comes out here."""

    __slots__ = ("_greenlet", "question", "transaction", "value")

    def __init__(self, work: Work[Any], now_ms: int, *, begin: Ask | None = None) -> None:
        self.transaction = PostgresTransaction(now_ms, _stop_and_ask, begin=begin)
        self.question: Ask | None = None
        self.value: Any = None
        self._greenlet = greenlet(work)

    def start(self) -> None:
        self._took(self._greenlet.switch(self.transaction))

    def answer(self, result: Result) -> None:
        self._took(self._greenlet.switch(result))

    def fail(self, error: Exception) -> None:
        """The question has no answer: the work sees the error there, and most likely ends with it."""
        self._took(self._greenlet.throw(error))

    def _took(self, given: Any) -> None:
        if self._greenlet.dead:
            self.question, self.value = None, given
        else:
            self.question = given


def _stop_and_ask(_: PostgresTransaction, question: Ask) -> Result:
    loop = getcurrent().parent
    assert loop, "a work runs in a greenlet of its own"
    answer: Result = loop.switch(question)
    return answer
