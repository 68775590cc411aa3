"""Run examples in one process, one after the other: `run_examples.py python|aws`, with the examples as JSON on stdin.

Each is {"environment": {…}, "text": …}; for each a line of JSON tells its output and, where it failed, the error.
"""

import contextlib
import io
import json
import os
import shlex
import sys
import traceback


def run_python(text: str) -> None:
    exec(compile(text, "example", "exec"), {"__name__": "__main__"})


def run_aws(text: str) -> None:
    """One command, as a shell reads it; the program itself takes most of a second to start."""
    from awscli.clidriver import create_clidriver

    program, *arguments = shlex.split(text.replace("\\\n", " "))
    assert program == "aws"
    status = create_clidriver().main([os.path.expandvars(argument) for argument in arguments])
    assert status == 0, f"exit status {status}"


def main() -> None:
    run = {"python": run_python, "aws": run_aws}[sys.argv[1]]
    for example in json.load(sys.stdin):
        os.environ.update(example["environment"])
        output, error = io.StringIO(), ""
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            try:
                run(example["text"])
            except Exception:  # noqa: BLE001 - whatever an example raises is what is told of it
                error = traceback.format_exc()
        sys.stdout.write(json.dumps({"output": output.getvalue(), "error": error}) + "\n")


main()
