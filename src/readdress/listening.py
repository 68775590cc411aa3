"""The sockets that the service listens on, opened before anything is served: a port that is taken stops the start.

Each worker has sockets of its own on the same ports (SO_REUSEPORT), over which the system spreads connections evenly;
what tells of one worker alone, its metrics, has a port for each instead.
The parent keeps all of them open, so a connection that comes while a worker is started again waits and is not refused.
"""

import contextlib
import os
import socket
import stat
from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeAlias

from readdress.config import UNIX_PREFIX, ConfigError, split_host_port

_BACKLOG = 1_024
OF_EACH_WORKER = frozenset({"metrics"})

Sockets: TypeAlias = dict[str, list[socket.socket]]  # by the setting that names the door


class ListenError(Exception):
    """A door can't be opened; the text says which, why, and what to do."""


class Listening(NamedTuple):
    """Where the service listens, by setting, and the sockets of each worker."""

    addresses: dict[str, str]
    sockets: list[Sockets]

    def close(self, *, keep: Sockets | None = None) -> None:
        """Let go of all sockets in this process but those."""
        for sockets in self.sockets:
            if sockets is not keep:
                for each in sockets.values():
                    for listening in each:
                        listening.close()


def listen(places: Mapping[str, str], *, workers: int) -> Listening:
    """Open `workers` sockets at every place, each HOST:PORT or unix:PATH. Raises ListenError, ConfigError."""
    listening = Listening({}, [{} for _ in range(workers)])
    for setting, place in places.items():
        try:
            for found in _open(setting, place, workers):
                for sockets, own in zip(listening.sockets, found, strict=True):
                    sockets.setdefault(setting, []).append(own)
        except OSError as error:
            listening.close()
            raise ListenError(
                f"cannot listen on {place} ({setting}): {error.strerror or error}. "
                "Stop what listens there, or choose another place: "
                "--http, --smtp, --lmtp, --smtp-tls, --socketmap or --metrics."
            ) from None
        each = listening.sockets if setting in OF_EACH_WORKER else listening.sockets[:1]
        listening.addresses[setting] = " ".join(_shown(place, sockets[setting][0]) for sockets in each)
    return listening


def _open(setting: str, place: str, workers: int) -> Iterator[list[socket.socket]]:
    """For each address that the place has, the workers' sockets."""
    if place.startswith(UNIX_PREFIX):
        first = _open_unix(place.removeprefix(UNIX_PREFIX))
        yield [first, *(first.dup() for _ in range(workers - 1))]
        return
    host, port = split_host_port(setting, place)
    if setting in OF_EACH_WORKER:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        if port + workers > 65_536:
            raise ConfigError(f"{setting} = {place}: each worker takes the next port, and there are too few; lower it")
        ports = [port + number if port else 0 for number in range(workers)]
        yield [_open_tcp(family, host, own, 1, takes_both=False)[0] for own in ports]
        return
    if setting == "http":  # one address, and with [::] IPv4 as well
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        yield _open_tcp(family, host, port, workers, takes_both=family == socket.AF_INET6)
        return
    resolved = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, address in dict.fromkeys((family, str(address[0])) for family, _, _, _, address in resolved):
        opened = _open_tcp(family, address, port, workers, takes_both=False)
        port = opened[0].getsockname()[1]
        yield opened


def _open_tcp(family: int, host: str, port: int, workers: int, *, takes_both: bool) -> list[socket.socket]:
    is_shared = workers > 1
    if is_shared and port:
        _require_free(family, host, port)
    opened: list[socket.socket] = []
    for _ in range(workers):
        opened.append(
            socket.create_server(
                (host, port), family=family, backlog=_BACKLOG, reuse_port=is_shared, dualstack_ipv6=takes_both
            )
        )
        port = opened[0].getsockname()[1]
    return opened


def _require_free(family: int, host: str, port: int) -> None:
    """Another service of the same user that shares its port would share it with us as well, and nobody would notice."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))


def _open_unix(path: str) -> socket.socket:
    """Who may reach it is decided by the folder it is in."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.stat(path).st_mode):  # noqa: PTH116 - a path for bind, as text
            os.unlink(path)  # noqa: PTH108 - left by a service before
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(path)
        os.chmod(path, 0o666)  # noqa: PTH101, S103 - the folder decides who comes so far
        listening.listen(_BACKLOG)
    except BaseException:
        listening.close()
        raise
    return listening


def _shown(place: str, listening: socket.socket) -> str:
    """The place with the port that a 0 became."""
    if place.startswith(UNIX_PREFIX):
        return place
    return f"{place.rpartition(':')[0]}:{listening.getsockname()[1]}"
