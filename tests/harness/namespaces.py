"""Hosts of the tests' own on one machine: network namespaces with a link between two, which can be cut and healed."""

import ctypes
import os
import shutil
import subprocess
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, Self, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

CLONE_NEWNET = 0x40000000


def are_possible() -> bool:
    """Whether this machine lets us make one."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    name = f"rd{uuid.uuid4().hex[:8]}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode == 0
    if made:
        ip("netns", "del", name)
    return made


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], capture_output=True, check=True)


class Host:
    """A namespace; what `call` runs, and what it starts, is in there."""

    def __init__(self) -> None:
        self.name = f"rd{uuid.uuid4().hex[:8]}"
        ip("netns", "add", self.name)
        ip("-n", self.name, "link", "set", "lo", "up")
        self._thread = ThreadPoolExecutor(1, initializer=self.enter)

    def enter(self) -> None:
        """Move the calling thread there for good."""
        with Path(f"/run/netns/{self.name}").open() as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")

    def call(self, function: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
        return self._thread.submit(function, *arguments, **keywords).result()

    def close(self) -> None:
        self._thread.shutdown()
        ip("netns", "del", self.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Link:
    """A cable between two hosts, with the address `.1` of the network at one end and `.2` at the other."""

    def __init__(self, one: Host, other: Host, network: str) -> None:
        self._one = one
        self.name = f"v{uuid.uuid4().hex[:8]}"
        self.address, self.other_address = f"{network}.1", f"{network}.2"
        peer = f"{self.name}p"
        ip("link", "add", self.name, "netns", one.name, "type", "veth", "peer", "name", peer, "netns", other.name)
        for host, device, address in ((one, self.name, self.address), (other, peer, self.other_address)):
            ip("-n", host.name, "address", "add", f"{address}/24", "dev", device)
            ip("-n", host.name, "link", "set", device, "up")

    def cut(self) -> None:
        """Nothing comes through, and nobody is told."""
        ip("-n", self._one.name, "link", "set", self.name, "down")

    def heal(self) -> None:
        ip("-n", self._one.name, "link", "set", self.name, "up")
