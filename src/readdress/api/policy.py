"""Policies in IAM's JSON: statements that allow or deny actions on resources; an explicit deny wins.

Understood: Version, Id, Statement with Sid, Effect, Action or NotAction, Resource or NotResource, and the wildcards
`*` and `?`. Anything else is refused when the key is made: a policy that is half understood would be worse than none.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

POLICY_BYTES_MAX = 65_536

ALLOW_EVERYTHING = '{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}'

_Patterns = Annotated[str, Meta(min_length=1)] | Annotated[list[str], Meta(min_length=1)]


class PolicyError(Exception):
    """The document is no policy that Readdress understands; the text names the place."""


class _Statement(msgspec.Struct, rename="pascal", forbid_unknown_fields=True):
    effect: Literal["Allow", "Deny"]
    sid: str | None = None
    action: _Patterns | None = None
    not_action: _Patterns | None = None
    resource: _Patterns | None = None
    not_resource: _Patterns | None = None


class _Document(msgspec.Struct, rename="pascal", forbid_unknown_fields=True):
    statement: _Statement | list[_Statement]
    version: Literal["2012-10-17", "2008-10-17"] = "2008-10-17"
    id: str | None = None


class Statement(NamedTuple):
    """One statement, its wildcards compiled; `negate_…` stands for NotAction and NotResource."""

    allows: bool
    actions: re.Pattern[str]
    negate_actions: bool
    resources: re.Pattern[str]
    negate_resources: bool

    def covers(self, action: str, resource: str) -> bool:
        return (self.actions.fullmatch(action) is not None) != self.negate_actions and (
            self.resources.fullmatch(resource) is not None
        ) != self.negate_resources


class Policy(NamedTuple):
    statements: Sequence[Statement]

    def allows(self, action: str, resource: str) -> bool:
        """Some statement allows it, and none denies it."""
        is_allowed = False
        for statement in self.statements:
            if statement.covers(action, resource):
                if not statement.allows:
                    return False
                is_allowed = True
        return is_allowed


def parse_policy(text: str | bytes) -> Policy:
    """Raises PolicyError."""
    if len(text) > POLICY_BYTES_MAX:
        raise PolicyError(f"the policy is longer than {POLICY_BYTES_MAX} bytes")
    try:
        document = msgspec.json.decode(text, type=_Document)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise PolicyError(f"the policy is not understood: {error}") from error
    statements = document.statement if isinstance(document.statement, list) else [document.statement]
    return Policy(tuple(_compile(statement) for statement in statements))


def _compile(statement: _Statement) -> Statement:
    if (statement.action is None) == (statement.not_action is None):
        raise PolicyError("a statement needs either Action or NotAction")
    if (statement.resource is None) == (statement.not_resource is None):
        raise PolicyError("a statement needs either Resource or NotResource")
    return Statement(
        allows=statement.effect == "Allow",
        actions=_wildcards(statement.action or statement.not_action, re.IGNORECASE),
        negate_actions=statement.not_action is not None,
        resources=_wildcards(statement.resource or statement.not_resource, 0),
        negate_resources=statement.not_resource is not None,
    )


def _wildcards(patterns: str | list[str] | None, flags: int) -> re.Pattern[str]:
    listed = [patterns] if isinstance(patterns, str) else patterns or []
    translated = (re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".") for pattern in listed)
    return re.compile("|".join(translated), flags | re.DOTALL)
