"""An operation's call in four languages, out of its declaration and the members that `examples.toml` has for it.

An operation without an entry there is a KeyError: every page has its examples.
"""

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from string import Template
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from readdress.api.operation import OWN_PREFIX, Operation

_MEMBERS: dict[str, dict[str, Any]] = tomllib.loads(Path(__file__).with_name("examples.toml").read_text("utf-8"))
_VARIABLE = re.compile(r"\$(\w+)")
_LINE_MAX = 90

PYTHON, AWS_CLI, JAVASCRIPT, HTTP = "Python", "AWS CLI", "JavaScript", "HTTP"


class Example(NamedTuple):
    """A call that can be run as it stands, once the variables that it names are in the environment."""

    language: str
    fence: str  # what a code block of Markdown calls the language
    text: str


def is_own(operation: Operation) -> bool:
    """Whether it is ours alone, so that no SDK and no CLI of Amazon's knows it."""
    return operation.binding.path.startswith(OWN_PREFIX)


def examples(operation: Operation) -> list[Example]:
    members = _MEMBERS[operation.name]
    if is_own(operation):
        request = _bind(operation, members)
        assert request.body is None, f"{operation.name} has a body, which no example of ours can sign yet"
        return [
            Example(PYTHON, "python", _signed_python(request)),
            Example(JAVASCRIPT, "js", _signed_javascript(request)),
            Example(HTTP, "sh", _curl(request)),
        ]
    return [
        Example(PYTHON, "python", _boto3(operation, members)),
        Example(AWS_CLI, "sh", _aws_cli(operation, members)),
        Example(JAVASCRIPT, "js", _sdk_javascript(operation, members)),
        Example(HTTP, "sh", _curl(_bind(operation, members))),
    ]


# Values, which every language writes down in its own way.


class _Notation(NamedTuple):
    variable: str  # with {} for its name
    true: str
    false: str
    key: str
    braces: tuple[str, str]
    step: str  # of indentation


_IN_PYTHON = _Notation('os.environ["{}"]', "True", "False", '"{}": ', ("{", "}"), "    ")
_IN_JAVASCRIPT = _Notation("process.env.{}", "true", "false", "{}: ", ("{ ", " }"), "  ")
_IN_JSON = _Notation('"${}"', "true", "false", '"{}": ', ("{", "}"), "  ")


def _write(value: Any, notation: _Notation, indent: str = "") -> str:
    """The value as the language has it, over several lines where one would be too long."""
    deeper = indent + notation.step
    match value:
        case bool():
            return notation.true if value else notation.false
        case str() if value.startswith("$"):
            return notation.variable.format(value[1:])
        case dict():
            entries = [notation.key.format(name) + _write(inner, notation, deeper) for name, inner in value.items()]
            line = ", ".join(entries).join(notation.braces)
            if len(line) <= _LINE_MAX and "\n" not in line:
                return line
            return f",\n{deeper}".join(entries).join((f"{{\n{deeper}", f"\n{indent}}}"))
        case list():
            return ", ".join(_write(inner, notation, deeper) for inner in value).join("[]")
        case _:
            return json.dumps(value, ensure_ascii=False)


def _lines(members: dict[str, Any], notation: _Notation, key: str) -> str:
    """A member a line, indented once."""
    step = notation.step
    return ",\n".join(f"{step}{key.format(name)}{_write(value, notation, step)}" for name, value in members.items())


def _words(name: str, between: str) -> str:
    """`CreateEmailAddress` in small words."""
    return re.sub(r"(?<!^)(?=[A-Z])", between, name).lower()


# Amazon's operations, by Amazon's clients.

_BOTO3 = """\
import os

import boto3

connect = boto3.client("connect")
answer = connect.$method(
$members,
)
print(answer)
"""

_SDK_JAVASCRIPT = """\
import { ConnectClient, ${operation}Command } from "@aws-sdk/client-connect";

const connect = new ConnectClient({});
const command = new ${operation}Command({
$members,
});
console.log(await connect.send(command));
"""


def _boto3(operation: Operation, members: dict[str, Any]) -> str:
    text = Template(_BOTO3).substitute(method=_words(operation.name, "_"), members=_lines(members, _IN_PYTHON, "{}="))
    return text if "os." in text else text.removeprefix("import os\n\n")


def _sdk_javascript(operation: Operation, members: dict[str, Any]) -> str:
    lines = _lines(members, _IN_JAVASCRIPT, _IN_JAVASCRIPT.key)
    return Template(_SDK_JAVASCRIPT).substitute(operation=operation.name, members=lines)


def _aws_cli(operation: Operation, members: dict[str, Any]) -> str:
    options = [f"aws connect {_words(operation.name, '-')}", *(_option(*member) for member in members.items())]
    return " \\\n  ".join(options) + "\n"


def _option(member: str, value: Any) -> str:
    name = f"--{_words(member, '-')}"
    match value:
        case bool():
            return name if value else name.replace("--", "--no-", 1)
        case str() if value.startswith("$"):
            return f'{name} "{value}"'
        case dict() if not any(isinstance(inner, dict) for inner in value.values()):
            return f'{name} "{",".join(f"{key}={inner}" for key, inner in value.items())}"'
        case dict():
            return f"{name} '{_write(value, _IN_JSON, '  ')}'"
        case list():
            return f"{name} {' '.join(value)}"
        case _:
            return f"{name} {json.dumps(value)}"


# HTTP, signed.


class _HttpRequest(NamedTuple):
    """Where the binding puts each member; `target` has variables as $NAME, and so has `body`."""

    method: str
    target: str
    headers: dict[str, str]
    body: dict[str, Any] | None


def _bind(operation: Operation, members: dict[str, Any]) -> _HttpRequest:
    binding = operation.binding
    if any(member.lower().endswith("arn") for member in binding.path_members):
        # An ARN in a path is encoded, and signed encoded twice, which a shell can't do: the other wire takes it as is.
        headers = {
            "x-amz-target": f"AmazonConnectService.{operation.name}",
            "content-type": "application/x-amz-json-1.1",
        }
        return _HttpRequest("POST", "/", headers, members)
    rest = dict(members)
    path = re.sub(r"{(\w+)}", lambda member: str(rest.pop(member[1])), binding.path)
    query = {name: rest.pop(member) for name, member in sorted(binding.query.items()) if member in rest}
    target = f"{path}?{urlencode(query, safe='$', quote_via=quote)}" if query else path
    return _HttpRequest(binding.method, target, {"content-type": "application/json"} if rest else {}, rest or None)


def _interpolate(target: str, variable: Callable[[str], str]) -> str:
    return _VARIABLE.sub(lambda name: variable(name[1]), target)


def _curl(request: _HttpRequest) -> str:
    options = [
        'curl --silent --fail-with-body --aws-sigv4 "aws:amz:$AWS_DEFAULT_REGION:connect"',
        '--user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY"',
        *(f'--header "{name}: {value}"' for name, value in request.headers.items()),
        f'--request {request.method} "$AWS_ENDPOINT_URL_CONNECT{request.target}"',
    ]
    if request.body is None:
        return " \\\n  ".join(options) + "\n"
    body = _lines(request.body, _IN_JSON, _IN_JSON.key)
    return " \\\n  ".join([*options, "--data @- <<END"]) + f"\n{{\n{body}\n}}\nEND\n"


_SIGNED_PYTHON = """\
import os
import urllib.request

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

session = boto3.session.Session()
path = f"$target"
signed = AWSRequest("$method", os.environ["AWS_ENDPOINT_URL_CONNECT"] + path)
SigV4Auth(session.get_credentials(), "connect", session.region_name).add_auth(signed)
request = urllib.request.Request(signed.url, headers=dict(signed.headers), method=signed.method)
with urllib.request.urlopen(request) as answer:
    print(answer.read().decode())
"""

_SIGNED_JAVASCRIPT = """\
import { createHash, createHmac } from "node:crypto";
import { SignatureV4 } from "@smithy/signature-v4";

class Sha256 {
  constructor(secret) {
    this.hash = secret ? createHmac("sha256", secret) : createHash("sha256");
  }
  update(data) {
    this.hash.update(data);
  }
  async digest() {
    return this.hash.digest();
  }
}

const path = `$target`;
const url = new URL(path, process.env.AWS_ENDPOINT_URL_CONNECT);
const signer = new SignatureV4({
  credentials: { accessKeyId: process.env.AWS_ACCESS_KEY_ID, secretAccessKey: process.env.AWS_SECRET_ACCESS_KEY },
  region: process.env.AWS_REGION,
  service: "connect",
  sha256: Sha256,
});
const { headers, method } = await signer.sign({
  method: "$method",
  protocol: url.protocol,
  hostname: url.hostname,
  path: url.pathname,
  query: Object.fromEntries(url.searchParams),
  headers: { host: url.host },
});
const answer = await fetch(url, { method, headers });
if (!answer.ok) throw new Error(await answer.text());
console.log(await answer.text());
"""


def _signed_python(request: _HttpRequest) -> str:
    target = _interpolate(request.target, lambda name: f"{{os.environ['{name}']}}")
    return Template(_SIGNED_PYTHON).substitute(method=request.method, target=target)


def _signed_javascript(request: _HttpRequest) -> str:
    target = _interpolate(request.target, lambda name: f"${{process.env.{name}}}")
    return Template(_SIGNED_JAVASCRIPT).substitute(method=request.method, target=target)
