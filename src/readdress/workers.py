"""Runs one work in several processes: starts them, starts again one that ends, and stops them when it is told to.

The parent forks and does nothing else. It has no event loop, no thread and no connection, so every worker, the first or
one that takes a dead one's place, begins as a clean copy of the same prepared program. A worker that ends too soon is
started again later each time; when none is left that serves, the parent gives up with status 1. When the parent dies,
however that happens, each worker finds its lifeline cut and stops.
"""

import contextlib
import logging
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import NamedTuple, NoReturn

log = logging.getLogger("readdress.workers")

# Who lives shorter has ended too soon.
STEADY_S = 10.0
RESTART_S_MIN, RESTART_S_MAX = 0.1, 1.0  # who comes to the dead worker's socket waits so long
SOON_ENDS_MAX = 5

_SIGNALS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Worker(NamedTuple):
    """What a work knows of the process it runs in."""

    number: int  # from 0
    lifeline: int  # a descriptor that becomes readable when the parent is gone
    tell_ready: Callable[[], None]


@dataclass
class _Place:
    """One of the workers, whoever it is at present."""

    number: int
    pid: int = 0  # 0: none runs
    started: float = 0.0
    due: float = 0.0  # when one is to be started
    is_ready: bool = False
    soon_ends: int = 0  # in a row


def run_workers(
    count: int,
    work: Callable[[Worker], int],
    *,
    on_ready: Callable[[], None],
    on_stop: Callable[[], None],
    stops_on: frozenset[signal.Signals],
) -> int:
    """Until one of `stops_on`, which workers hear as SIGTERM; gives the status to end with, as `work` gives a worker's.

    `on_ready` is called when all workers are ready for the first time, `on_stop` when they are told to stop.
    """
    return _Parent(count, work, on_ready=on_ready, on_stop=on_stop, stops_on=stops_on).run()


class _Parent:
    def __init__(
        self,
        count: int,
        work: Callable[[Worker], int],
        *,
        on_ready: Callable[[], None],
        on_stop: Callable[[], None],
        stops_on: frozenset[signal.Signals],
    ) -> None:
        self._places = [_Place(number) for number in range(count)]
        self._work = work
        self._on_ready = on_ready
        self._on_stop = on_stop
        self._stops_on = stops_on
        self._was_ready = False
        self._is_stopping = False
        self._status = 0
        self._signals, self._signals_in = os.pipe()  # where Python writes what has come
        self._reports, self._reports_in = os.pipe()  # where a worker writes its number when it is ready
        self._lifeline, self._lifeline_in = os.pipe()  # where nobody ever writes
        os.set_blocking(self._signals_in, False)

    def run(self) -> int:
        with self._hearing_signals():
            while True:
                for place in self._places:
                    if not self._is_stopping and not place.pid and place.due <= monotonic():
                        self._start(place)
                if self._is_stopping and not any(place.pid for place in self._places):
                    return self._status
                self._hear()
                self._bury()

    @contextlib.contextmanager
    def _hearing_signals(self) -> Iterator[None]:
        before = [(number, signal.signal(number, lambda *_: None)) for number in _SIGNALS]
        signal.set_wakeup_fd(self._signals_in)
        try:
            yield
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in before:
                signal.signal(number, handler)

    def _hear(self) -> None:
        """Wait for a signal, a report, or the time to start a worker."""
        waits = [max(0.0, place.due - monotonic()) for place in self._places if not place.pid]
        timeout = min(waits) if waits and not self._is_stopping else None
        readable, _, _ = select.select([self._signals, self._reports], [], [], timeout)
        if self._reports in readable:
            for number in os.read(self._reports, 4_096):
                self._places[number].is_ready = True
            if not self._was_ready and all(place.is_ready for place in self._places):
                self._was_ready = True
                self._on_ready()
        if self._signals in readable:
            for number in os.read(self._signals, 4_096):
                self._pass_on(signal.Signals(number))

    def _pass_on(self, number: signal.Signals) -> None:
        if number in self._stops_on:
            self._stop()
        elif number == signal.SIGHUP:
            for place in self._places:
                if place.is_ready:  # one that is being started would die of it
                    os.kill(place.pid, number)

    def _stop(self) -> None:
        if not self._is_stopping:
            self._is_stopping = True
            self._on_stop()
        for place in self._places:
            if place.pid:
                os.kill(place.pid, signal.SIGTERM)

    # Birth and death.

    def _start(self, place: _Place) -> None:
        place.started, place.is_ready = monotonic(), False
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # until the child has handlers of its own
        try:
            place.pid = os.fork()
        except OSError as error:
            log.error("cannot start worker %d: %s", place.number + 1, error)  # noqa: TRY400 - it says all
            self._put_off(place)
        else:
            if not place.pid:
                self._become(place.number)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def _become(self, number: int) -> NoReturn:
        """A worker, from its first breath to its last; nothing of the parent's is left to be run."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for number_of_signal in _SIGNALS:
                signal.signal(number_of_signal, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            for descriptor in (self._signals, self._signals_in, self._reports, self._lifeline_in):
                os.close(descriptor)
            status = self._work(Worker(number, self._lifeline, lambda: _write(self._reports_in, number)))
        except BaseException:
            log.exception("the worker has failed")
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    def _bury(self) -> None:
        for place in self._places:
            if not place.pid:
                continue
            pid, wait_status = os.waitpid(place.pid, os.WNOHANG)
            if pid:
                self._note_end(place, os.waitstatus_to_exitcode(wait_status))

    def _note_end(self, place: _Place, code: int) -> None:
        pid, place.pid, was_ready, place.is_ready = place.pid, 0, place.is_ready, False
        said = f"signal {signal.Signals(-code).name}" if code < 0 else f"status {code}"
        if self._is_stopping:
            if code and (was_ready or code != -signal.SIGTERM):
                self._status = 1
                log.error("worker %d (process %d) did not stop cleanly: %s", place.number + 1, pid, said)
            return
        log.error("worker %d (process %d) ended with %s", place.number + 1, pid, said)
        self._put_off(place)

    def _put_off(self, place: _Place) -> None:
        """Start the next one at once if this one had lived long, and give up where nothing helps."""
        lived_s = monotonic() - place.started
        place.soon_ends = place.soon_ends + 1 if lived_s < STEADY_S else 0
        wait_s = RESTART_S_MIN * 2.0 ** (place.soon_ends - 2) if place.soon_ends > 1 else 0.0
        place.due = monotonic() + min(wait_s, RESTART_S_MAX)
        is_serving = self._was_ready and any(other.is_ready for other in self._places)
        if place.soon_ends >= SOON_ENDS_MAX and not is_serving:
            log.error("workers keep ending as soon as they start, and the service gives up: see above for why")
            self._status = 1
            self._stop()


def _write(descriptor: int, number: int) -> None:
    os.write(descriptor, bytes([number]))
