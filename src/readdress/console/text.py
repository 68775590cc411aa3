"""Text of strangers on a page: what would hide or turn it round is shown."""

import re

# Characters that are not seen, or turn round what is: controls, overrides of direction, spaces without a width, tags.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]")
SURROGATES = re.compile("[\ud800-\udfff]")


def visible(text: str) -> str:
    """What can't be seen is named, what is no character is replaced."""
    return _HIDDEN.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", SURROGATES.sub("\ufffd", text))
