"""aiosmtpd for the measures: an alias that leads to two Maildirs, on disk before 250; run by the peers' own Python.

The file is written and fsynced once, on a thread so that messages wait for the disk side by side, moved into the
alias's Maildir and linked into the primary's. Neither folder is fsynced, as Postfix' virtual(8) doesn't either. There
is no alias table: the one recipient is known by its name. What fails is told to the sender by aiosmtpd's own 500.
"""

import asyncio
import itertools
import os
import sys
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP

ALIAS = "alias@example.com"
_numbers = itertools.count()


class Maildirs:
    """A handler; `root` is the folder of both."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("alias", "primary"):
            for part in ("tmp", "new", "cur"):
                (root / name / part).mkdir(parents=True, exist_ok=True)

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:  # noqa: N802 - as aiosmtpd calls it
        if address.lower() != ALIAS:
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        await asyncio.to_thread(self.keep, envelope.content)
        return "250 OK"

    def keep(self, content: bytes) -> None:
        name = f"{os.getpid()}.{next(_numbers)}"
        file = self.root / "alias" / "tmp" / name
        with file.open("xb") as written:
            written.write(content)
            written.flush()
            os.fsync(written.fileno())
        os.link(file, self.root / "primary" / "new" / name)
        file.rename(self.root / "alias" / "new" / name)


async def main(port: int, root: Path) -> None:
    handler = Maildirs(root)
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(handler, enable_SMTPUTF8=True), "127.0.0.1", port, backlog=1000
    )
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2])))
