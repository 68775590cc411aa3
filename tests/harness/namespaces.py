"""Network namespaces of the tests' own, joined by links that are cut and healed; the host's network knows none of it.

A thread that enters one sees its network alone, and so does every program that it starts.
"""

import contextlib
import ctypes
import os
import shutil
import subprocess
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import pytest

from harness.programs import require_program

T = TypeVar("T")

CLONE_NEWNET = 0x4000_0000
# Nobody has it, so frames to it are dropped without a word.
NOBODYS_HARDWARE = "02:00:00:00:00:01"


class Namespace:
    """One network, with a loopback of its own; `run` calls a function in it."""

    def __init__(self) -> None:
        self.name = f"readdress-{uuid.uuid4().hex[:8]}"
        ip("netns", "add", self.name)
        try:
            ip("-n", self.name, "link", "set", "lo", "up")
            self._thread = ThreadPoolExecutor(1, initializer=self.enter)
        except BaseException:
            self.remove()
            raise

    def enter(self) -> None:
        """The calling thread, for good."""
        descriptor = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        finally:
            os.close(descriptor)

    def run(self, function: Callable[[], T]) -> T:
        return self._thread.submit(function).result(120)

    def remove(self) -> None:
        if hasattr(self, "_thread"):
            self._thread.shutdown()
        with contextlib.suppress(subprocess.CalledProcessError):
            ip("netns", "delete", self.name)


class End(NamedTuple):
    """One end of a link: its namespace, its device there, and its address."""

    namespace: Namespace
    device: str
    address: str

    def ip(self, *words: str) -> None:
        ip("-n", self.namespace.name, *words)


class Link:
    """A veth pair between two namespaces; it goes with either of them."""

    def __init__(self, one: Namespace, other: Namespace, *, subnet: int) -> None:
        """`subnet` is a number below 256, for addresses that exist in these namespaces alone."""
        device = f"rd{uuid.uuid4().hex[:8]}"
        ip("-n", one.name, "link", "add", f"{device}a", "type", "veth", "peer", f"{device}b", "netns", other.name)
        self.one = End(one, f"{device}a", f"10.203.{subnet}.1")
        self.other = End(other, f"{device}b", f"10.203.{subnet}.2")
        for end in (self.one, self.other):
            end.ip("address", "add", f"{end.address}/30", "dev", end.device)
            end.ip("link", "set", end.device, "up")

    def take_down(self) -> None:
        """Both ends see it."""
        for end in (self.one, self.other):
            end.ip("link", "set", end.device, "down")

    def drop(self) -> None:
        """Frames go to hardware that nobody has: neither end hears a word of it."""
        for near, far in ((self.one, self.other), (self.other, self.one)):
            near.ip("neighbour", "replace", far.address, "lladdr", NOBODYS_HARDWARE, "dev", near.device, "nud",
                    "permanent")  # fmt: skip

    def heal(self) -> None:
        for near, far in ((self.one, self.other), (self.other, self.one)):
            near.ip("link", "set", near.device, "up")
            with contextlib.suppress(subprocess.CalledProcessError):
                near.ip("neighbour", "delete", far.address, "dev", near.device)


def require_namespaces() -> None:
    """Skip where there are none to be had."""
    require_program("ip")
    if os.geteuid() != 0:
        pytest.skip("only root makes network namespaces")
    try:
        one, other = Namespace(), Namespace()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("the kernel makes no network namespaces here")
    try:
        Link(one, other, subnet=0)
        one.run(os.getpid)
    except (OSError, RuntimeError, subprocess.CalledProcessError):
        pytest.skip("the kernel joins no network namespaces here")
    finally:
        one.remove()
        other.remove()


def ip(*words: str) -> None:
    program = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    assert program
    subprocess.run([program, *words], check=True, capture_output=True, timeout=30)
