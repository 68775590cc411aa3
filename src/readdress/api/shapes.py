"""The members that operations share, with the limits of the published service model.

A limit counts characters. `Meta(extra=…)` keeps the model's own pattern where Python's notation differs, so that the
contract test can compare it with the source.
"""

from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta

# Python's `re` has no \p{…}: these are the same sets, letters and numbers by \w, separators spelled out; and its \d
# knows the digits of every script, where the model's knows ten.
_SEPARATORS = r" \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_MODEL_SETS = {r"\p{L}\p{Z}\p{N}_": rf"\w{_SEPARATORS}", r"\d": "0-9"}

# Characters that no member may hold: C0 and C1 controls; Description alone may have tabs and line ends.
CONTROL_CHARACTERS = r"\x00-\x1f\x7f-\x9f"


def model_pattern(pattern: str) -> Meta:
    """A pattern of the service model, matched against the whole text, which never holds control characters."""
    translated = pattern
    for notation, equivalent in _MODEL_SETS.items():
        translated = translated.replace(notation, equivalent)
    body = translated.removeprefix("^").removesuffix("$")
    return Meta(pattern=rf"\A(?!(?s:.*)[{CONTROL_CHARACTERS}])(?:{body})\Z", extra={"model_pattern": pattern})


NO_CONTROLS = Meta(pattern=rf"\A[^{CONTROL_CHARACTERS}]*\Z")
TEXT_CONTROLS_ONLY = Meta(pattern=r"\A[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*\Z")

InstanceId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=100), NO_CONTROLS]
EmailAddressId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=500), NO_CONTROLS]
MessageId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=100), NO_CONTROLS]
ClientToken: TypeAlias = Annotated[str, Meta(max_length=500), NO_CONTROLS]
EmailAddressText: TypeAlias = Annotated[
    str, Meta(min_length=1, max_length=255), model_pattern(r"[^\s@]+@[^\s@]+\.[^\s@]+")
]
DisplayName: TypeAlias = Annotated[str, Meta(min_length=0, max_length=256), NO_CONTROLS]
Description: TypeAlias = Annotated[str, Meta(min_length=0, max_length=4096), TEXT_CONTROLS_ONLY]
TagKey: TypeAlias = Annotated[
    str, Meta(min_length=1, max_length=128), model_pattern(r"^(?!aws:)[\p{L}\p{Z}\p{N}_.:/=+\-@]*$")
]
TagValue: TypeAlias = Annotated[str, Meta(max_length=256), NO_CONTROLS]
TagMap: TypeAlias = Annotated[dict[TagKey, TagValue], Meta(min_length=1, max_length=50)]
TagKeyList: TypeAlias = Annotated[list[TagKey], Meta(min_length=1, max_length=50)]
ResourceArn: TypeAlias = Annotated[str, NO_CONTROLS, Meta(max_length=2048)]


class Shape(msgspec.Struct, rename="pascal", omit_defaults=True, kw_only=True):
    """A structure on the wire; a member without a value is left out."""


class Request(Shape):
    """What an operation takes."""


class Answer(Shape):
    """What an operation gives."""


class WaitingRequest(Request):
    """A request for what is in an inbox that may wait until there is enough of it."""

    instance_id: InstanceId
    email_address_id: EmailAddressId
    wait_ms: Annotated[int, Meta(ge=0, le=20_000)] | None = None

    def is_met(self, answer: Any) -> bool:
        """Whether the answer has what was waited for."""
        raise NotImplementedError


class Empty(Answer):
    """An answer without members: an empty body in REST, `{}` in JSON 1.1."""


class AliasConfiguration(Shape):
    email_address_id: EmailAddressId
