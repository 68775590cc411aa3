"""Who may come in, and who stays signed in: keys, sessions, forms of other sites, other hosts (docs/console.md)."""

import asyncio
import http.client
from collections.abc import Callable
from urllib.parse import urlencode

import pytest

from conftest import ManualClock
from harness.access_keys import create_key, disable_key
from harness.browser import Browser
from harness.process import ServiceProcess
from readdress.console import sessions
from readdress.console.attempts import BY_KEY_MAX, BY_PEER_MAX, REMEMBERED_MAX, WINDOW_S, Attempts
from readdress.console.guard import DEVELOPMENT, Origin, parse_origin
from readdress.store.database import Database

SESSION = "readdress"


def test_one_click_in_development(browser: Browser) -> None:
    assert browser.get("/_console/").path.startswith("/_console/sign-in")
    page = browser.sign_in()
    assert page.status == 200
    assert "test Sign out" in page.text


def test_with_a_key_and_its_secret(service: ServiceProcess, browser: Browser) -> None:
    key, secret = create_key(service)
    assert f"{key} Sign out" in browser.sign_in(key, secret).text


@pytest.mark.parametrize(("key", "secret"), [("test", "wrong"), ("AKIANOBODY", "test"), ("test", "")])
def test_a_wrong_secret_and_no_such_key_read_the_same(browser: Browser, key: str, secret: str) -> None:
    page = browser.sign_in(key, secret)
    assert page.status == 403
    assert "There is no such access key, or it is disabled, or its secret is another." in page.text
    assert SESSION not in browser.cookies


def test_a_key_that_is_disabled_is_signed_out_at_once(service: ServiceProcess, browser: Browser) -> None:
    key, secret = create_key(service)
    browser.sign_in(key, secret)
    disable_key(service, key)
    assert browser.get("/_console/").path.startswith("/_console/sign-in")
    assert browser.sign_in(key, secret).status == 403


def test_a_session_is_new_at_each_sign_in(person: Browser) -> None:
    """A token that somebody planted in the browser before is worth nothing (session fixation)."""
    first = person.cookies[SESSION]
    person.cookies[SESSION] = "planted-by-somebody-else"
    assert person.get("/_console/").path.startswith("/_console/sign-in")
    person.sign_in()
    assert person.cookies[SESSION] not in (first, "planted-by-somebody-else")


def test_signing_out_ends_the_session_everywhere(person: Browser) -> None:
    token = person.cookies[SESSION]
    page = person.get("/_console/")
    out = next(form for form in page.forms if form.action.endswith("/sign-out"))
    assert person.submit(page, out).path == "/_console/sign-in"
    assert SESSION not in person.cookies
    person.cookies[SESSION] = token
    assert person.get("/_console/").path.startswith("/_console/sign-in")


def test_the_cookie_is_for_this_site_and_no_script(browser: Browser) -> None:
    fields = browser.get("/_console/sign-in").form("/sign-in").fields | {"development": "yes"}
    answer = browser.ask_once("POST", "/_console/sign-in", urlencode(fields).encode())
    cookie = answer.headers["set-cookie"].splitlines()[0].lower()
    assert cookie.startswith("readdress=")
    assert "httponly" in cookie
    assert "samesite=lax" in cookie


@pytest.mark.parametrize("form_token", ["", "another"])
def test_a_form_without_the_sessions_token_changes_nothing(person: Browser, home: str, form_token: str) -> None:
    page = person.post(f"{home}/addresses", {"EmailAddress": "csrf@example.com", "form_token": form_token})
    assert page.status == 400
    assert "csrf@example.com" not in person.get(f"{home}/addresses").text


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}],
    ids=lambda headers: "-".join(headers.values()),
)
def test_a_form_from_another_site_is_refused(person: Browser, home: str, headers: dict[str, str]) -> None:
    page = person.get(f"{home}/addresses/new")
    fields = page.form("/addresses").fields | {"EmailAddress": "csrf@example.com"}
    assert person.post(f"{home}/addresses", fields, **headers).status == 403
    assert "csrf@example.com" not in person.get(f"{home}/addresses").text


def test_nobody_is_signed_in_by_another_sites_form(browser: Browser) -> None:
    page = browser.get("/_console/sign-in")
    fields = page.form("/sign-in").fields | {"development": "yes"}
    browser.cookies.clear()  # another site can send the form, and not the cookie
    assert browser.post("/_console/sign-in", fields).status == 403


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "evil.example:4780", "", "[::1"])
def test_another_host_is_refused(service: ServiceProcess, host: str) -> None:
    """What a name that was made to point here asks for (DNS rebinding)."""
    connection = http.client.HTTPConnection(*service.http_address, timeout=30)
    connection.request("GET", "/_console/sign-in", headers={"Host": host})
    assert connection.getresponse().status == 421
    connection.close()


@pytest.mark.parametrize(
    "following",
    [
        "https://evil.example/",
        "//evil.example/",
        "/_console//evil.example",
        "/\\evil.example",
        "/_console/\\evil.example",
        "/other",
        "javascript:alert(1)",
        "/_console/../health",
    ],
)
def test_nobody_is_sent_away_after_signing_in(browser: Browser, following: str) -> None:
    """`Browser` itself refuses to leave the host."""
    page = browser.get("/_console/sign-in")
    landed = browser.submit(page, page.form("/sign-in"), development="yes", next=following)
    assert landed.path.startswith("/_console/")
    assert "evil" not in landed.path


def test_back_to_where_one_wanted_to_go(browser: Browser, home: str) -> None:
    page = browser.get(f"{home}/addresses?q=help%40example.com")
    landed = browser.submit(page, page.form("/sign-in"), development="yes")
    assert landed.path == f"{home}/addresses?q=help%40example.com"


def test_pages_say_what_browsers_may_do(person: Browser, home: str) -> None:
    headers = person.get(f"{home}/addresses").headers
    assert "script-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert headers["x-frame-options"] == "DENY"


def test_a_form_is_bounded(browser: Browser) -> None:
    assert browser.post("/_console/sign-in", {"access_key_id": "a" * 70_000}).status == 413
    assert browser.post("/_console/sign-in", {f"f{number}": "" for number in range(500)}).status == 400


def test_there_are_no_pages_unless_they_are_wanted(start_service: Callable[..., ServiceProcess]) -> None:
    service = start_service(dev=False)
    with Browser(service.http_address) as browser:
        assert browser.get("/_console/").status == 403  # as for any call without a signature
    assert "Pages" not in service.output


def test_behind_tls_the_cookie_is_for_that_host_alone(start_service: Callable[..., ServiceProcess]) -> None:
    service = start_service("--console", "https://mail.example.com", dev=False)
    assert "https://mail.example.com/_console/" in service.output
    with Browser(service.http_address) as browser:
        assert browser.get("/_console/sign-in").status == 421
        page = browser.get("/_console/sign-in", Host="mail.example.com")
        assert page.status == 200
        assert "secure" in page.headers["set-cookie"].lower()
        assert "development" not in page.text


@pytest.mark.parametrize(
    "text", ["http://mail.example.com", "mail.example.com", "https://a.example/x", "https://u@a.example"]
)
def test_an_origin_that_would_not_be_safe_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="has to be the https://"):
        parse_origin(text)


def test_origins() -> None:
    assert parse_origin("https://Mail.Example.com:8443") == Origin("https", "mail.example.com:8443")
    assert parse_origin("http://localhost:4780") == Origin("http", "localhost:4780")
    assert all(map(DEVELOPMENT.has, ("127.0.0.1:4780", "localhost", "[::1]:80")))


class _Time:
    now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


def test_too_many_wrong_secrets_of_a_key() -> None:
    time = _Time()
    attempts = Attempts(time)
    for peer in range(BY_KEY_MAX):
        assert not attempts.wait_s(access_key_id="k", peer=str(peer))
        attempts.add(access_key_id="k", peer=str(peer))
    assert attempts.wait_s(access_key_id="k", peer="new") == WINDOW_S
    assert not attempts.wait_s(access_key_id="other", peer="new")
    time.now_s += WINDOW_S
    assert not attempts.wait_s(access_key_id="k", peer="new")


def test_too_many_keys_of_a_peer() -> None:
    attempts = Attempts(_Time())
    for number in range(BY_PEER_MAX):
        attempts.add(access_key_id=str(number), peer="p")
    assert attempts.wait_s(access_key_id="new", peer="p")
    for number in range(REMEMBERED_MAX):  # what is remembered is bounded
        attempts.add(access_key_id=f"n{number}", peer=f"p{number}")
    assert len(attempts._failures) == REMEMBERED_MAX


def test_who_fails_too_often_waits(start_service: Callable[..., ServiceProcess]) -> None:
    with Browser(start_service().http_address) as browser:
        for _ in range(BY_KEY_MAX):
            assert browser.sign_in("test", "wrong").status == 403
        page = browser.sign_in("test", "test")
        assert page.status == 429
        assert "Too many tries" in page.text


def test_a_session_ends_by_itself(database: Database, clock: ManualClock) -> None:
    async def story() -> None:
        token = await sessions.begin(database, "AKIA")
        clock.advance(sessions.LIFETIME_MS - 1)
        assert await sessions.find(database, token, now_ms=clock.now_ms()) == "AKIA"
        clock.advance(1)
        assert await sessions.find(database, token, now_ms=clock.now_ms()) is None
        assert await database.write(sessions.delete_expired) == 1

    asyncio.run(story())
