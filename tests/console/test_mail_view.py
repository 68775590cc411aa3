"""What strangers send, made safe to look at (docs/console.md, Inbox)."""

import base64
from email.message import EmailMessage
from html.parser import HTMLParser

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from readdress.console import mail_view
from readdress.console.mail_view import MailView, read_mail, read_part, sanitise
from readdress.console.text import visible

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)

_DOES = frozenset(
    {"script", "style", "iframe", "object", "embed", "form", "input", "base", "meta", "link", "svg", "math", "video"}
)


class _Danger(HTMLParser):
    """What in a piece of HTML would do something or load something."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _DOES:
            self.found.append(tag)
        for name, value in attrs:
            text = (value or "").strip().lower()
            is_link = name == "href" and text.startswith(("http:", "https:", "mailto:"))
            is_picture = name == "src" and text.startswith(("data:image/png", "data:image/gif", "data:image/jpeg"))
            if name.startswith("on") or (name in ("href", "src") and not is_link and not is_picture):
                self.found.append(f"{tag} {name}={text}")
            if name == "style" and ("url" in text or "\\" in text or "expression" in text):
                self.found.append(f"{tag} style={text}")


def dangers_in(markup: str) -> list[str]:
    reader = _Danger()
    reader.feed(markup)
    return reader.found


def html_of(html: str) -> MailView:
    message = EmailMessage()
    message.set_content(html, subtype="html")
    return read_mail(message.as_bytes())


def test_a_message_of_all_kinds_is_taken_apart() -> None:
    message = EmailMessage()
    message["From"] = "Åsa <asa@example.com>"
    message["Subject"] = "Größe"
    message.set_content("plain words\n")
    message.add_alternative('<p>rich words <img src="cid:dot@here" alt="a dot"></p>', subtype="html")
    message.add_attachment(PNG, maintype="image", subtype="png", cid="<dot@here>", filename="dot.png")
    message.add_attachment("a,b\n", subtype="csv", filename="größe.csv")
    content = message.as_bytes()
    view = read_mail(content)
    assert view.text == "plain words\n"
    assert view.header("subject") == "Größe"
    assert view.header("from") == "Åsa <asa@example.com>"
    assert [(one.name, one.kind) for one in view.attachments] == [("dot.png", "image/png"), ("größe.csv", "text/csv")]
    assert read_part(content, view.attachments[0].number) == ("dot.png", PNG)
    safe = view.safe_html()
    assert safe.remote_count == 0
    assert f"data:image/png;base64,{base64.b64encode(PNG).decode()}" in safe.markup
    assert view.cut == []


@pytest.mark.parametrize(
    "html",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<svg onload=alert(1)><script>alert(1)</script></svg>",
        "<math><mi//xlink:href='data:x,<script>alert(4)</script>'>",
        "<a href='javascript:alert(1)'>x</a>",
        "<a href=' jav&#x09;ascript:alert(1)'>x</a>",
        "<a href='data:text/html,<script>alert(1)</script>'>x</a>",
        "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
        "<form action='https://evil.example'><input name=a><button>Go</button></form>",
        "<base href='https://evil.example/'><meta http-equiv=refresh content='0;url=https://evil.example'>",
        "<link rel=stylesheet href='https://evil.example/a.css'>",
        "<style>@import 'https://evil.example/a.css'; body { background: url(https://evil.example/b) }</style>",
        "<p style='background: url(https://evil.example/b)'>x</p>",
        "<p style='background-color: \\75rl(https://evil.example/b)'>x</p>",
        "<p style='width: expression(alert(1))'>x</p>",
        "<img src='data:image/svg+xml;base64,PHN2Zz4='>",
        "<img src='//evil.example/pixel'>",
        "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
        "<video src='https://evil.example/v'></video><audio src='https://evil.example/a'></audio>",
        "<table background='https://evil.example/b'><tr><td background='https://evil.example/b'>x</table>",
        "<img srcset='https://evil.example/a 1x'><picture><source srcset='https://evil.example/a'></picture>",
        "<plaintext><script>alert(1)</script>",
        "<!--[if mso]><script>alert(1)</script><![endif]-->",
    ],
)
def test_html_that_would_act_or_load_does_neither(html: str) -> None:
    safe = html_of(html).safe_html()
    assert dangers_in(safe.markup) == []
    assert "evil.example" not in safe.markup.replace('href="https://evil.example', "")


def test_what_was_not_loaded_is_counted() -> None:
    safe = html_of("<img src='https://a.example/1'><img src='//a.example/2'><p style='background:url(x)'>").safe_html()
    assert safe.remote_count == 3


def test_links_lead_out_without_saying_whence() -> None:
    markup = html_of("<a href='https://example.com/confirm?x=1&y=2'>Confirm</a>").safe_html().markup
    assert 'href="https://example.com/confirm?x=1&amp;y=2"' in markup
    assert 'rel="noopener noreferrer nofollow"' in markup


def test_looks_that_load_nothing_stay() -> None:
    markup = html_of("<p style='color: red; position: fixed; font-weight: bold'>x</p>").safe_html().markup
    assert "color:red" in markup
    assert "position" not in markup


def test_hidden_characters_are_shown() -> None:
    assert visible("invoice\u202efdp.exe") == "invoice⟨U+202E⟩fdp.exe"
    assert visible("a\u200bb\x1b[31m") == "a⟨U+200B⟩b⟨U+001B⟩[31m"
    assert visible("عربى ok 👩‍👩‍👧\n\t") == "عربى ok 👩‍👩‍👧\n\t"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("5 MB of HTML", b"Content-Type: text/html\r\n\r\n" + b"<p>Hello <b>world</b> and all</p>\r\n" * 150_000),
        ("nested elements", b"Content-Type: text/html\r\n\r\n" + b"<li><ul>" * 200_000),
        (
            "nested parts",
            b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (i, i) for i in range(3_000)),
        ),
        ("nested messages", b"Content-Type: message/rfc822\r\n\r\n" * 3_000),
        ("too many lines", b"\r\n" * 500_000),
        ("too long", b"x" * (17 << 20)),
        ("many headers", b"X-Many: value\r\n" * 20_000 + b"\r\nbody"),
    ],
)
def test_what_is_too_much_is_cut_and_said(name: str, content: bytes) -> None:
    view = read_mail(content)
    assert view.cut or not view.safe_html().is_whole
    assert len(view.safe_html().markup) < 4 << 20
    assert len(view.headers) <= mail_view.HEADERS_MAX


def test_a_thousand_attachments_are_counted_and_a_hundred_shown() -> None:
    part = b"--x\r\nContent-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n"
    content = b"Content-Type: multipart/mixed; boundary=x\r\n\r\n" + part * 1_000 + b"--x--\r\n"
    view = read_mail(content)
    assert (view.attachment_count, len(view.attachments)) == (1_000, 100)
    assert view.cut == ["Of 1,000 attachments, the first 100."]
    assert read_part(content, 999) == ("a.pdf", b"\0\0\0")
    assert read_part(content, 1_000) is None


@pytest.mark.parametrize(
    ("charset", "data", "text"),
    [
        ("utf-8", "größe".encode(), "größe"),
        ("iso-8859-1", "größe".encode("latin-1"), "größe"),
        ("koi8-r", "привет".encode("koi8-r"), "привет"),
        ("no-such", b"plain", "plain"),
        ("punycode", b"plain-", "plain-"),
        ("hex", b"6869", "6869"),
        ("utf-8", b"\xff\xfe", "\ufffd\ufffd"),
    ],
)
def test_charsets_right_wrong_and_unknown(charset: str, data: bytes, text: str) -> None:
    assert read_mail(f"Content-Type: text/plain; charset={charset}\r\n\r\n".encode() + data).text == text


_PIECES = [
    b"Content-Type: multipart/mixed; boundary=x\r\n",
    b"Content-Type: text/html\r\n",
    b"Content-Type: text/plain; charset=utf-16\r\n",
    b"Content-Transfer-Encoding: base64\r\n",
    b"Content-Transfer-Encoding: x-uuencode\r\n",
    b"\r\n",
    b"--x\r\n",
    b"--x--\r\n",
    b"Content-Disposition: attachment; filename*=utf-8''%e2%80%ae\r\n",
    b"Content-ID: <a>\r\n",
    b"Subject: =?utf-8?b?////?=\r\n",
    b"<script>",
    b"<img src=x onerror=y>",
    b'<a href="java\nscript:x">',
    b"<style>",
    b"</p>",
    b"style='x:url(y)'",
    b"begin 644 x\r\n",
    b"\xff\x00",
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(_PIECES), st.binary(max_size=20)), max_size=30).map(b"".join))
@example(b"Content-Type: text/html; charset=\xff\r\n\r\n<p>")
@example(b"Content-Type: image/png\r\nContent-ID: <a>\r\nContent-Transfer-Encoding: base64\r\n\r\n!")
def test_nothing_raises_and_nothing_acts(content: bytes) -> None:
    view = read_mail(content)
    assert dangers_in(view.safe_html().markup) == []
    for one in view.attachments:
        assert read_part(content, one.number) is not None
    assert "\u202e" not in "".join(one.name for one in view.attachments) + view.header("subject") + (view.text or "")


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.one_of(st.sampled_from([piece.decode("latin-1") for piece in _PIECES]), st.text(max_size=8))).map(
        "".join
    )
)
def test_no_html_acts(html: str) -> None:
    assert dangers_in(sanitise(html, {}).markup) == []
