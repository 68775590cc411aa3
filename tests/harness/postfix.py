"""A real Postfix in a folder of its own, with settings of a test or a measure. Needs root, as Postfix does."""

import os
import pwd
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

DELIVERY_SECONDS_MAX = 20
DOCUMENT = Path(__file__).parents[2] / "docs" / "postfix.md"

# Postfix' own services, one line each: name, type, private, unprivileged, chroot, wakeup, maxproc, command.
MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
lmtp unix - - n - - lmtp
smtp unix - - n - - smtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""

MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = peer.example.net
mydestination =
inet_interfaces = loopback-only
inet_protocols = ipv4
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
message_size_limit = 50000000
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_peername_lookup = no
default_process_limit = 100
"""


# An alias that leads to two Maildirs: what Readdress does, done by maps.
ALIAS_TO_MAILDIRS = """\
virtual_mailbox_domains = example.com
virtual_mailbox_base = {folder}/mail
virtual_mailbox_maps = inline:{{ {{primary@example.com = primary/}}, {{alias@example.com = alias/}} }}
virtual_alias_maps = inline:{{ {{alias@example.com = alias@example.com, primary@example.com}} }}
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_mailbox_limit = 0
"""


def documented_settings(word: str) -> str:
    """The lines of main.cf in docs/postfix.md that have the word in them."""
    snippets = re.findall(r"```ini\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    (found,) = (snippet for snippet in snippets if word in snippet)
    return str(found)


def wait_for(found: Callable[[], object]) -> object:
    """What a delivery gives in the end."""
    deadline = time.monotonic() + DELIVERY_SECONDS_MAX
    while time.monotonic() < deadline:
        if value := found():
            return value
        time.sleep(0.05)
    raise AssertionError("nothing was delivered in time")


class Postfix:
    """Started on a port of loopback."""

    def __init__(self, folder: Path, port: int, settings: str) -> None:
        self.folder = folder
        self.port = port
        owner = pwd.getpwnam("nobody")
        for name in ("config", "queue", "data", "mail"):
            (folder / name).mkdir(parents=True)
        folder.chmod(0o755)
        shutil.chown(folder / "data", "postfix")
        os.chown(folder / "mail", owner.pw_uid, owner.pw_gid)
        values = {"folder": folder, "uid": owner.pw_uid, "gid": owner.pw_gid}
        (folder / "config" / "master.cf").write_text(MASTER.format(port=port))
        (folder / "config" / "main.cf").write_text((MAIN + settings).format(**values))
        self._run("start")

    def delivered(self) -> int:
        """How many messages are in both Maildirs."""
        folders = (self.folder / "mail" / name / "new" for name in ("primary", "alias"))
        return min(sum(1 for _ in path.iterdir()) if path.exists() else 0 for path in folders)

    def wait_delivered(self, count: int, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while self.delivered() < count:
            if time.monotonic() > deadline:
                raise SystemExit(f"Postfix delivered {self.delivered()} of {count}; see {self.folder}/log")
            time.sleep(0.01)

    def empty(self) -> None:
        shutil.rmtree(self.folder / "mail" / "primary", ignore_errors=True)
        shutil.rmtree(self.folder / "mail" / "alias", ignore_errors=True)

    def cpu_seconds(self) -> float:
        """Of all its processes that still live, and those that master has waited for."""
        master = int((self.folder / "queue" / "pid" / "master.pid").read_text())
        total = 0.0
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                total += _cpu_if_child(entry, master)
        return total

    def stop(self) -> None:
        self._run("stop")

    def _run(self, verb: str) -> None:
        command = ["postfix", "-c", str(self.folder / "config"), verb]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"postfix {verb}: {done.stderr}")


def _cpu_if_child(entry: Path, master: int) -> float:
    try:
        fields = (entry / "stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return 0.0
    ticks = os.sysconf("SC_CLK_TCK")
    if int(entry.name) == master:
        return sum(map(int, fields[11:15])) / ticks
    return sum(map(int, fields[11:13])) / ticks if int(fields[1]) == master else 0.0
