"""A browser without a script: cookies, redirects, and forms as the page has them; what it reads, it parses."""

import http.client
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.cookies import SimpleCookie
from typing import Self
from urllib.parse import urlencode, urljoin, urlsplit

_VOID = frozenset({"br", "hr", "img", "input", "link", "meta"})


@dataclass
class Form:
    method: str
    action: str
    fields: dict[str, str] = field(default_factory=dict)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: list[tuple[str, str]] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self._within: list[str] = []
        self._textarea = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.append((tag, given))
        if tag not in _VOID:
            self._within.append(tag)
        if tag == "form":
            self.forms.append(Form(given.get("method", "get").upper(), given.get("action", "")))
        elif tag == "a":
            self.links.append((given.get("href", ""), ""))
        elif tag == "input" and self.forms and "name" in given and given.get("type") not in ("radio", "checkbox"):
            self.forms[-1].fields[given["name"]] = given.get("value", "")
        elif tag == "textarea":
            self._textarea = given.get("name", "")
            self.forms[-1].fields[self._textarea] = ""

    def handle_endtag(self, tag: str) -> None:
        while self._within and self._within.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        within = self._within[-1] if self._within else ""
        if within == "textarea":
            self.forms[-1].fields[self._textarea] += data.removeprefix("\n")
        elif "a" in self._within and self.links:
            href, text = self.links[-1]
            self.links[-1] = (href, (text + data).strip())
        if within not in ("script", "style"):
            self.words.append(data)


@dataclass
class Page:
    """What came back, after all redirects."""

    path: str
    status: int
    headers: dict[str, str] = field(repr=False)
    body: bytes

    def __post_init__(self) -> None:
        reader = _Reader()
        reader.feed(self.body.decode("utf-8", "replace"))
        self.forms, self.links, self.tags = reader.forms, reader.links, reader.tags
        self.text = " ".join(" ".join(reader.words).split())

    def form(self, ending: str = "") -> Form:
        """The form whose action ends so, but never the one that signs out."""
        found = [form for form in self.forms if form.action.endswith(ending) and "sign-out" not in form.action]
        assert found, f"no form for {ending} in {self.path}: {self.text}"
        return found[0]

    def link(self, text: str) -> str:
        """Where the link of that text goes."""
        found = [href for href, words in self.links if words == text]
        assert found, f"no link {text} in {self.path}: {self.links}"
        return found[0]

    def has_link(self, text: str) -> bool:
        return any(words == text for _, words in self.links)


class Browser:
    """One person's, at one service."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.host = f"{address[0]}:{address[1]}"
        self.cookies: dict[str, str] = {}
        self._connection = http.client.HTTPConnection(*address, timeout=30)

    def get(self, path: str, **headers: str) -> Page:
        return self.ask("GET", path, headers=headers)

    def submit(self, page: Page, form: Form, **values: str) -> Page:
        fields = form.fields | values
        path = urljoin(page.path, form.action or page.path)
        if form.method == "GET":
            return self.get(f"{urlsplit(path).path}?{urlencode(fields)}")
        return self.post(path, fields)

    def post(self, path: str, fields: dict[str, str], **headers: str) -> Page:
        sent = {"Content-Type": "application/x-www-form-urlencoded", "Origin": f"http://{self.host}"} | headers
        return self.ask("POST", path, urlencode(fields).encode(), headers=sent)

    def sign_in(self, access_key_id: str = "", secret: str = "") -> Page:
        """With a key, or with one click."""
        page = self.get("/_console/sign-in")
        form = page.form("/sign-in")
        if not access_key_id:
            return self.submit(page, form, development="yes")
        return self.submit(page, form, access_key_id=access_key_id, secret=secret)

    def ask(self, method: str, path: str, body: bytes | None = None, *, headers: dict[str, str] | None = None) -> Page:
        """Follows redirects, as browsers do: by GET."""
        for _ in range(5):
            page = self.ask_once(method, path, body, headers)
            where = page.headers.get("location")
            if where is None:
                return page
            target = urlsplit(urljoin(f"http://{self.host}{path}", where))
            assert target.netloc == self.host, f"sent away to {where}"
            path, method, body, headers = target._replace(scheme="", netloc="").geturl(), "GET", None, {}
        raise AssertionError(f"{path} leads in circles")

    def ask_once(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Page:
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        self._connection.request(method, path, body, {"Cookie": cookie} | (headers or {}))
        response = self._connection.getresponse()
        for value in response.headers.get_all("Set-Cookie", []):
            for name, morsel in SimpleCookie(value).items():
                if morsel["max-age"] == "0":
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = morsel.value
        found = {name.lower(): value for name, value in response.getheaders()}
        found["set-cookie"] = "\n".join(response.headers.get_all("Set-Cookie", []))
        return Page(path, response.status, found, response.read())

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
