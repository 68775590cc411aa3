"""Settings: where they come from, in which order, and what is refused."""

from pathlib import Path

import pytest

from readdress.config import Config, ConfigError, load_config, split_host_port

ROOT = Path(__file__).parents[1]


def test_the_command_line_goes_over_the_environment_over_the_file_over_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "readdress.toml"
    file.write_text('region = "eu-west-1"\nlock_wait_ms = 100\nrecipients_max = 200\n')
    config = load_config(
        file, {"READDRESS_LOCK_WAIT_MS": "300", "READDRESS_DATA": "env"}, {"data": "cli", "http": None}
    )
    assert (config.data, config.lock_wait_ms, config.region, config.recipients_max) == ("cli", 300, "eu-west-1", 200)
    assert config.http == Config().http


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"READDRESS_LOCK_WAIT_MS": "0"}, "lock_wait_ms"),
        ({"READDRESS_LOCK_WAIT_MS": "soon"}, "lock_wait_ms"),
        ({"READDRESS_NO_SUCH": "1"}, "READDRESS_NO_SUCH"),
        ({"READDRESS_ACCOUNT": "12"}, "account"),
        ({"READDRESS_HOSTNAME": "a b"}, "hostname"),
        ({"READDRESS_RECIPIENTS_MAX": "99"}, "recipients_max"),  # RFC 5321 §4.5.3.1.8
    ],
)
def test_what_is_out_of_bounds_is_named(environment: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        load_config(None, environment, {})


@pytest.mark.parametrize(
    ("name", "hint"), [("aws_limit", "is aws_limits meant?"), ("zzz", "docs/operations.md lists all settings.")]
)
def test_a_setting_that_does_not_exist_is_named_with_what_may_be_meant(name: str, hint: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(None, {}, {name: "1"})
    assert str(refused.value) == f"there is no setting {name}: {hint}"


@pytest.mark.parametrize("text", ["unknown = 1", 'lock_wait_ms = "5"', "= broken", "dev = 3"])
def test_a_file_that_is_wrong_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "readdress.toml"
    file.write_text(text)
    with pytest.raises(ConfigError):
        load_config(file, {}, {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [("127.0.0.1:25", ("127.0.0.1", 25)), ("[::1]:0", ("::1", 0)), ("localhost:65535", ("localhost", 65535))],
)
def test_host_and_port(text: str, expected: tuple[str, int]) -> None:
    assert split_host_port("smtp", text) == expected


@pytest.mark.parametrize("text", ["", "127.0.0.1", ":25", "a:", "a:b", "a:65536", "a:-1"])
def test_what_is_no_host_and_port_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="smtp"):
        split_host_port("smtp", text)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://readdress:{}@a.example/mail",
        "postgresql://readdress:{}@a.example:1,[::1]:2/mail?target_session_attrs=read-write",
        "postgresql://readdress@/mail?host=a.example,b.example&port=1,2&password={}&target_session_attrs=read-write",
        "postgresql://a.example/mail?sslpassword={}",
        "postgresql://readdress:{}/more@a.example/mail",
        "postgresql://readdress:{}@more@a.example/mail",
        "postgresql://readdress:more?{}@a.example/mail?port=1",
    ],
)
def test_a_databases_password_is_not_shown(url: str) -> None:
    shown = Config(database=url.format("secret")).database_shown
    assert "secret" not in shown
    assert "more" not in shown
    assert "a.example" in shown


@pytest.mark.parametrize("url", ["sqlite:////srv/a:b@c.db", "postgresql://readdress@/mail?host=a,b&port=1,2"])
def test_a_url_without_a_password_is_shown_as_it_is(url: str) -> None:
    assert Config(database=url).database_shown == url


def test_every_setting_is_documented() -> None:
    text = (ROOT / "docs" / "operations.md").read_text("utf-8")
    for name in Config.__struct_fields__:
        assert f"`{name}`" in text, name
