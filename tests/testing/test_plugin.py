"""The plugin itself: cheap until it is asked, new for every test, one for all, and in parallel."""

import subprocess
import sys
from typing import Any

import boto3
import pytest

from readdress.testing import Readdress

FIXED = "support@example.com"


def test_loading_it_imports_neither_the_service_nor_an_sdk() -> None:
    code = "import readdress.testing.plugin, sys; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not {"boto3", "botocore", "httptools", "msgspec", "readdress.service", "sqlite3", "smtplib"} & loaded


def test_pytest_finds_it_and_starts_nothing_without_a_test_that_asks(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_nothing():
            assert "readdress.service" not in sys.modules
            assert "boto3" not in sys.modules
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_a_test_begins_with_an_account_that_has_one_instance_and_no_address(readdress: Readdress) -> None:
    instances = readdress.connect.list_instances()["InstanceSummaryList"]
    assert [instance["Id"] for instance in instances] == [readdress.instance_id]
    found = readdress.connect.search_email_addresses(InstanceId=readdress.instance_id)
    assert found["EmailAddresses"] == []


@pytest.mark.parametrize("_", [1, 2])
def test_tests_may_publish_the_same_address(readdress: Readdress, _: int) -> None:
    published = readdress.publish(FIXED)
    assert readdress.inbox(FIXED) == []
    readdress.send(to=published)
    assert len(readdress.inbox(FIXED)) == 1


@pytest.mark.parametrize("text", ["first", "second"])
def test_a_token_of_one_test_means_nothing_in_another(readdress: Readdress, text: str) -> None:
    readdress.publish(text, ClientToken="always the same")


def test_an_instance_that_a_test_makes_ends_with_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def make(readdress):
            made = readdress.connect.create_instance(
                IdentityManagementType="SAML", InboundCallsEnabled=True, OutboundCallsEnabled=True, InstanceAlias="ours"
            )
            readdress.connect.create_email_address(InstanceId=made["Id"], EmailAddress="support@example.com")

        def test_one(readdress):
            make(readdress)

        def test_two(readdress):
            make(readdress)
            assert len(readdress.connect.list_instances()["InstanceSummaryList"]) == 2
        """
    )
    pytester.runpytest_inprocess().assert_outcomes(passed=2)


def test_addresses_are_the_test_s_own_and_stay_the_same_in_it(readdress: Readdress) -> None:
    support = readdress.address("support")
    assert support == readdress.address("support")
    assert support.startswith("support@")
    assert support.endswith(".test")


def test_publish_gives_text_and_id_and_makes_an_alias_on_request(readdress: Readdress) -> None:
    support = readdress.publish("support", DisplayName="Support")
    helpdesk = readdress.publish("help", alias_of=support)
    described = readdress.connect.describe_email_address(InstanceId=readdress.instance_id, EmailAddressId=support.id)
    assert described["EmailAddress"] == readdress.address("support")
    assert described["DisplayName"] == "Support"
    assert described["EmailAddressArn"] == support.arn
    assert described["AliasConfigurations"] == [{"EmailAddressId": helpdesk.id}]


def test_an_alias_may_be_of_an_address_that_the_program_published(readdress: Readdress) -> None:
    readdress.connect.create_email_address(InstanceId=readdress.instance_id, EmailAddress=FIXED)
    helpdesk = readdress.publish("help", alias_of=FIXED)
    readdress.send(to=helpdesk)
    assert [message.reason for message in readdress.inbox(FIXED)] == ["ALIAS"]
    with pytest.raises(LookupError, match="publish it before its alias"):
        readdress.publish("other", alias_of="nobody@example.com")


def test_the_client_is_the_same_and_others_find_the_service_too(readdress: Readdress) -> None:
    assert readdress.connect is readdress.connect
    other = boto3.client("connect", **readdress.client_options)
    assert other.describe_instance(InstanceId=readdress.instance_id)["Instance"]["Id"] == readdress.instance_id
    other.close()


def test_programs_find_the_service_by_the_environment(
    readdress: Readdress, readdress_environment: dict[str, str]
) -> None:
    program = boto3.session.Session().client("connect")
    assert program.meta.endpoint_url == readdress.url
    program.describe_instance(InstanceId=readdress_environment["INSTANCE_ID"])
    program.close()


@pytest.mark.readdress(account="000000000042", message_bytes_max=65_536)
def test_a_marker_gives_the_service_other_settings(readdress: Readdress) -> None:
    support = readdress.publish("support")
    with pytest.raises(Exception, match=r"5\.3\.4"):
        readdress.send(to=support, body="x" * 70_000)


def test_a_setting_that_is_none_is_named(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.readdress(colour="blue")
        def test_it(readdress):
            pass
        """
    )
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*ConfigError*colour*"])


@pytest.mark.parametrize("options", [[], ["-n", "2"]], ids=["alone", "xdist"])
def test_many_tests_share_a_service_in_each_process(pytester: pytest.Pytester, options: list[str]) -> None:
    pytester.makepyfile(
        """
        import os, pytest

        urls = set()

        @pytest.mark.parametrize("number", range(20))
        def test_it(readdress, number):
            urls.add(readdress.url)
            assert len(urls) == 1
            support = readdress.publish("support@example.com")
            helpdesk = readdress.publish("help@example.com", alias_of=support)
            readdress.send(to=helpdesk, subject=f"{number}")
            [message] = readdress.wait_for(support)
            assert message.subject == f"{number}"
        """
    )
    pytester.runpytest_subprocess("-W", "error", *options).assert_outcomes(passed=20)


def test_a_service_that_cannot_start_is_an_error_of_the_test_and_not_a_hang(
    readdress: Readdress, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    from readdress.service import Service
    from readdress.testing.running import RunningService

    async def fail(*_: object) -> None:
        raise OSError("no such luck")

    monkeypatch.setattr(Service, "run", fail)
    with pytest.raises(RuntimeError, match="did not start") as failed:
        RunningService(tmp_path, {})
    assert "no such luck" in str(failed.value.__cause__)
