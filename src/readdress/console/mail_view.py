"""A message as a page shows it: taken apart, made readable, and rid of whatever could act or phone home.

Everything in here comes from strangers. What is too much is cut, and the page says so; nothing raises. The caller runs
it on a thread, for the largest takes some tenths of a second.
"""

import base64
import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import policy
from email.errors import HeaderParseError
from email.header import decode_header
from email.message import Message
from email.parser import BytesParser
from itertools import islice
from typing import Final, NamedTuple

import nh3

from readdress.console.text import SURROGATES, visible

MESSAGE_BYTES_MAX: Final = 16 << 20  # what is larger is for download alone
MESSAGE_LINES_MAX: Final = 400_000
LINES_BY_BOUNDARIES_MAX: Final = 6_000_000  # each line is held against each open boundary
PARTS_MAX: Final = 2_000
ATTACHMENTS_SHOWN_MAX: Final = 100
HEADERS_MAX: Final = 200
HEADER_CHARS_MAX: Final = 2_000
NAME_CHARS_MAX: Final = 200
TEXT_CHARS_MAX: Final = 200_000
HTML_CHARS_MAX: Final = 1 << 20
# The sanitiser's time grows with the square of the nesting, which nobody knows before it is done.
HTML_TAGS_MAX: Final = 8_000
IMAGES_BYTES_MAX: Final = 4 << 20

# Codecs that are for text, and that take no more than linear time.
_CHARSET = re.compile(r"ascii|utf|iso|cp\d|koi8|gb|big5|shift|euc|mac|hz|johab|kz|tis")
_PICTURE = re.compile(r"image/(?:png|gif|jpeg|webp)")
_DATA_PICTURE = re.compile(r"data:image/(?:png|gif|jpeg|webp);base64,[A-Za-z0-9+/=\s]*")
_LINK = re.compile(r"(?:https?|mailto):", re.IGNORECASE)

_TAGS = (nh3.ALLOWED_TAGS | {"font"}) - {"area", "map"}
_ATTRIBUTES = {
    "*": {"align", "bgcolor", "dir", "height", "lang", "style", "title", "valign", "width"},
    "a": {"href"},
    "font": {"color", "face", "size"},
    "img": {"alt", "src"},
    "ol": {"start"},
    "table": {"border", "cellpadding", "cellspacing"},
    "td": {"colspan", "rowspan"},
    "th": {"colspan", "rowspan", "scope"},
}
_STYLES = {
    "background-color", "border", "border-bottom", "border-collapse", "border-color", "border-left", "border-radius",
    "border-right", "border-spacing", "border-style", "border-top", "border-width", "color", "display", "font",
    "font-family", "font-size", "font-style", "font-weight", "height", "letter-spacing", "line-height", "margin",
    "margin-bottom", "margin-left", "margin-right", "margin-top", "max-width", "min-width", "padding", "padding-bottom",
    "padding-left", "padding-right", "padding-top", "text-align", "text-decoration", "text-transform", "vertical-align",
    "white-space", "width", "word-break",
}  # fmt: skip
# A value that could name a resource, or hide that it does.
_LOADS = re.compile(r"url|image|src|\\|@|/\*|expression|var\(", re.IGNORECASE)


class Attachment(NamedTuple):
    number: int  # among the parts, for a link
    name: str
    kind: str
    size_bytes: int


@dataclass(frozen=True)
class MailView:
    """`text` and `html` are None where the message has none; `cut` says what is not all there."""

    headers: list[tuple[str, str]] = field(default_factory=list)
    text: str | None = None
    html: str | None = None
    attachments: list[Attachment] = field(default_factory=list)
    attachment_count: int = 0
    cut: list[str] = field(default_factory=list)
    _pictures: dict[str, str] = field(default_factory=dict, repr=False)

    def header(self, name: str) -> str:
        """The first of that name, decoded."""
        return next((decode_words(value) for key, value in self.headers if key.lower() == name), "")

    def safe_html(self) -> "SafeHtml":
        return sanitise(self.html or "", self._pictures)


class SafeHtml(NamedTuple):
    """HTML that loads nothing and does nothing; how many things it would have loaded, and whether that is all of it."""

    markup: str
    remote_count: int
    is_whole: bool


def read_mail(content: bytes) -> MailView:
    """What a page shows of it."""
    if _is_too_much(content):
        return MailView(cut=["This message is too large or too nested to be shown here. Download it."])
    try:
        message = _parse(content)
        return _View(message, list(_leaves(message))).build()
    except Exception:  # noqa: BLE001 - the parser has raised many kinds at what strangers send
        return MailView(cut=["This message can't be taken apart. Look at it raw."])


def read_part(content: bytes, number: int) -> tuple[str, bytes] | None:
    """The name and the bytes of an attachment."""
    if _is_too_much(content):
        return None
    try:
        part = next(islice(_leaves(_parse(content)), number, None), None)
        return (_name_of(part) or f"part-{number}", _bytes_of(part)) if part is not None else None
    except Exception:  # noqa: BLE001 - as above
        return None


def sanitise(html: str, pictures: dict[str, str]) -> SafeHtml:
    """`pictures` are data URLs by Content-ID."""
    remote_count = 0

    def allow(element: str, attribute: str, value: str) -> str | None:
        nonlocal remote_count
        if element == "img" and attribute == "src":
            if value.lower().startswith("cid:"):
                return pictures.get(value[4:])
            if _DATA_PICTURE.fullmatch(value):
                return value
            remote_count += 1
            return None
        if attribute == "href":
            return value if _LINK.match(value) else None
        if attribute == "style" and _LOADS.search(value):
            remote_count += "url" in value.lower()
            return None
        return value

    shortened, is_whole = _shorten(html)
    markup = nh3.clean(
        shortened,
        tags=_TAGS,
        clean_content_tags={"script", "style", "title", "template", "noscript", "iframe", "object", "svg", "math"},
        attributes=_ATTRIBUTES,
        attribute_filter=allow,
        url_schemes={"http", "https", "mailto", "cid", "data"},
        url_relative="pass_through",
        filter_style_properties=_STYLES,
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},
    )
    return SafeHtml(markup, remote_count, is_whole)


def decode_words(value: str) -> str:
    """A header's value with its encoded words (RFC 2047) read."""
    try:
        pieces = decode_header(value[:HEADER_CHARS_MAX])
    except (HeaderParseError, ValueError):
        return visible(value)
    found = [_decode(piece, charset) if isinstance(piece, bytes) else piece for piece, charset in pieces]
    return visible("".join(found)).replace("\n", " ")


@dataclass
class _View:
    """A message being taken apart."""

    message: Message
    parts: list[Message]

    def build(self) -> MailView:
        texts: list[str] = []
        html: str | None = None
        attached: list[tuple[int, Message]] = []
        for number, part in enumerate(self.parts):
            kind, is_inline = part.get_content_type(), part.get_content_disposition() != "attachment"
            if kind == "text/plain" and is_inline and not _name_of(part):
                texts.append(_text_of(part))
            elif kind == "text/html" and is_inline and html is None:
                html = _text_of(part)
            else:
                attached.append((number, part))
        text, cut = "\n\n".join(texts), []
        if len(text) > TEXT_CHARS_MAX:
            cut.append(f"Of the text, the first {TEXT_CHARS_MAX:,} characters.")
        if len(attached) > ATTACHMENTS_SHOWN_MAX:
            cut.append(f"Of {len(attached):,} attachments, the first {ATTACHMENTS_SHOWN_MAX}.")
        if len(self.parts) == PARTS_MAX:
            cut.append(f"Of the parts, the first {PARTS_MAX:,}.")
        if len(self.message) > HEADERS_MAX:
            cut.append(f"Of {len(self.message):,} header fields, the first {HEADERS_MAX}.")
        return MailView(
            headers=_headers_of(self.message),
            text=visible(text[:TEXT_CHARS_MAX]) if texts else None,
            html=html,
            attachments=[
                Attachment(number, _name_of(part) or f"part-{number}", part.get_content_type(), len(_bytes_of(part)))
                for number, part in attached[:ATTACHMENTS_SHOWN_MAX]
            ],
            attachment_count=len(attached),
            cut=cut,
            _pictures=_pictures_of(part for _, part in attached),
        )


def _is_too_much(content: bytes) -> bool:
    if len(content) > MESSAGE_BYTES_MAX:
        return True
    lines = content.count(b"\n")
    return lines > MESSAGE_LINES_MAX or lines * content.lower().count(b"boundary") > LINES_BY_BOUNDARIES_MAX


def _parse(content: bytes) -> Message:
    return BytesParser(policy=policy.compat32).parsebytes(content)


def _leaves(message: Message) -> Iterator[Message]:
    """What is no multipart; a message within the message is one attachment."""
    waiting, seen = [message], 0
    while waiting and seen < PARTS_MAX:
        part = waiting.pop()
        children = part.get_payload()
        if part.get_content_maintype() == "multipart" and isinstance(children, list):
            waiting.extend(child for child in reversed(children) if isinstance(child, Message))
        else:
            seen += 1
            yield part


def _headers_of(message: Message) -> list[tuple[str, str]]:
    return [
        (visible(name[:NAME_CHARS_MAX]), visible(re.sub(r"\r?\n", "\n", _unescape(str(value))[:HEADER_CHARS_MAX])))
        for name, value in islice(message.raw_items(), HEADERS_MAX)
    ]


def _name_of(part: Message) -> str:
    name = part.get_filename("") or ""
    return decode_words(_unescape(name).replace("\r", " ").replace("\n", " ")[:NAME_CHARS_MAX])


def _bytes_of(part: Message) -> bytes:
    if part.get_content_maintype() == "message" or part.is_multipart():
        children = part.get_payload() if part.is_multipart() else []
        return b"".join(child.as_bytes() for child in children if isinstance(child, Message))
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _text_of(part: Message) -> str:
    text = _decode(_bytes_of(part), part.get_content_charset())
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _decode(data: bytes, charset: str | None) -> str:
    try:
        name = codecs.lookup(charset or "utf-8").name
        return data.decode(name if _CHARSET.match(name) else "utf-8", "replace")
    except (LookupError, ValueError):
        return data.decode("utf-8", "replace")


def _unescape(text: str) -> str:
    """Bytes beyond ASCII in a header are taken as UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _pictures_of(parts: Iterator[Message]) -> dict[str, str]:
    """Data URLs by Content-ID: in its frame, a message can ask for nothing, not even here."""
    found: dict[str, str] = {}
    left = IMAGES_BYTES_MAX
    for part in parts:
        content_id = str(part.get("Content-ID", "")).strip().strip("<>")
        kind = part.get_content_type()
        if content_id and _PICTURE.fullmatch(kind):
            data = _bytes_of(part)
            left -= len(data)
            if left < 0:
                break
            found[content_id] = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    return found


def _shorten(html: str) -> tuple[str, bool]:
    html = SURROGATES.sub("\ufffd", html)
    end, tags = min(len(html), HTML_CHARS_MAX), html.count("<", 0, HTML_CHARS_MAX)
    if tags > HTML_TAGS_MAX:
        end = next(islice(re.finditer("<", html), HTML_TAGS_MAX, None)).start()
    return html[:end], end == len(html)
