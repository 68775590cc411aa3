"""The site of docs/: built by the command of `make docs`, and served."""

import os
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from harness.programs import require

ROOT = Path(__file__).parents[2]


def build(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Build the site whose mkdocs.yml is in the folder; without MkDocs the test is skipped, and in CI it fails."""
    mkdocs = ROOT / ".venv-docs" / "bin" / "mkdocs"
    if not mkdocs.exists():
        require("MkDocs is missing: `make docs` installs it")
    (command,) = re.findall(r"mkdocs (build .*)", (ROOT / "Makefile").read_text())
    return subprocess.run(
        [mkdocs, *command.split(), *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:docs/generator", "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve a folder on a free port, and say where."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the standard library's
        """Nothing: what is asked for is in no test's way."""
