"""Mail in tests: sent by SMTP as a sender would, read as it came, waited for, and missed with reasons."""

import smtplib
import threading
import time
from email.message import EmailMessage

import pytest

from readdress.testing import MailMissing, Readdress


def test_a_mail_to_an_alias_is_in_both_inboxes_and_says_why(readdress: Readdress) -> None:
    support = readdress.publish("support")
    helpdesk = readdress.publish("help", alias_of=support)
    assert readdress.send(to=helpdesk, sender="ada@example.org", subject="Hello", body="Grüße") == {}
    (direct,) = readdress.inbox(helpdesk)
    (forwarded,) = readdress.inbox(support)
    assert (direct.reason, forwarded.reason) == ("DIRECT", "ALIAS")
    assert direct.id == forwarded.id
    assert forwarded.recipients == (helpdesk,)
    assert (forwarded.sender, forwarded.subject) == ("ada@example.org", "Hello")
    assert forwarded.email["From"] == "ada@example.org"
    assert forwarded.text.strip() == "Grüße"
    assert abs(forwarded.received.timestamp() - time.time()) < 60


def test_alias_and_primary_both_named_give_both_reasons(readdress: Readdress) -> None:
    support = readdress.publish("support")
    helpdesk = readdress.publish("help", alias_of=support)
    readdress.send(to=[helpdesk, support])
    (message,) = readdress.inbox(support)
    assert sorted(message.reasons) == ["ALIAS", "DIRECT"]


def test_a_message_of_one_s_own_arrives_octet_by_octet(readdress: Readdress) -> None:
    support = readdress.publish("support")
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "ada@example.org", support, "Invoice"
    message.set_content("see the attachment")
    message.add_attachment(b"\x00\x01\xff", maintype="application", subtype="pdf", filename="invoice.pdf")
    message.set_boundary("a-boundary")
    readdress.send(message)
    (arrived,) = readdress.inbox(support)
    assert arrived.raw == message.as_bytes().replace(b"\n", b"\r\n")
    (attachment,) = arrived.email.iter_attachments()
    assert attachment.get_filename() == "invoice.pdf"
    assert attachment.get_content() == b"\x00\x01\xff"


def test_the_envelope_may_differ_from_the_header(readdress: Readdress) -> None:
    support = readdress.publish("support")
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "ada@example.org", "list@elsewhere.example", "News"
    readdress.send(message, to=support, sender="bounces@elsewhere.example")
    (arrived,) = readdress.inbox(support)
    assert (arrived.sender, arrived.email["From"]) == ("bounces@elsewhere.example", "ada@example.org")


def test_a_mail_needs_a_recipient(readdress: Readdress) -> None:
    with pytest.raises(TypeError, match="say whom the mail is for"):
        readdress.send(subject="for nobody")


def test_a_message_without_a_body_has_no_text(readdress: Readdress) -> None:
    support = readdress.publish("support")
    message = EmailMessage()
    message["From"], message["To"] = "ada@example.org", support
    message.add_attachment(b"x", maintype="application", subtype="pdf")
    readdress.send(message)
    assert readdress.inbox(support)[0].text == ""


def test_refusals_are_smtplib_s(readdress: Readdress) -> None:
    support = readdress.publish("support")
    nobody = readdress.address("nobody")
    with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
        readdress.send(to=nobody)
    code, text = refused.value.recipients[nobody]
    assert (code, text.startswith(b"5.1.1")) == (550, True)
    assert refused.value.__notes__ == ["nobody has published it, or it takes no mail: see readdress.publish"]
    assert readdress.send(to=[support, nobody]).keys() == {nobody}
    assert len(readdress.inbox(support)) == 1


def test_the_inbox_is_in_order_of_arrival(readdress: Readdress) -> None:
    support = readdress.publish("support")
    for number in range(5):
        readdress.send(to=support, subject=f"{number}")
    assert [message.subject for message in readdress.inbox(support)] == list("01234")
    assert [message.subject for message in readdress.wait_for(support, 5)] == list("01234")


def test_waiting_ends_with_the_commit_and_not_later(readdress: Readdress) -> None:
    support = readdress.publish("support")
    sent: list[float] = []

    def send_later() -> None:
        time.sleep(0.3)
        readdress.send(to=support, subject="late")
        sent.append(time.monotonic())

    sender = threading.Thread(target=send_later)
    sender.start()
    (message,) = readdress.wait_for(support)
    waited_until = time.monotonic()
    sender.join()
    assert message.subject == "late"
    assert waited_until - sent[0] < 0.5  # a look each second would take longer on the average


def test_waiting_for_several_that_match(readdress: Readdress) -> None:
    support = readdress.publish("support")

    def send_all() -> None:
        for subject in ("Order 1", "Spam", "Order 2"):
            readdress.send(to=support, subject=subject)

    sender = threading.Thread(target=send_all)
    sender.start()
    orders = readdress.wait_for(support, count=2, matching=lambda message: message.subject.startswith("Order"))
    sender.join()
    assert [order.subject for order in orders] == ["Order 1", "Order 2"]


def test_what_is_there_already_is_not_waited_for(readdress: Readdress) -> None:
    support = readdress.publish("support")
    readdress.send(to=support)
    assert len(readdress.wait_for(support, timeout=0)) == 1


def test_a_missing_mail_says_what_came_and_where_one_would_go(readdress: Readdress) -> None:
    support = readdress.publish("support")
    helpdesk = readdress.publish("help", alias_of=support)
    readdress.send(to=helpdesk, subject="Something else")
    began = time.monotonic()
    with pytest.raises(MailMissing) as missing:
        readdress.wait_for(helpdesk, timeout=0.2, matching=lambda message: message.subject == "Order")
    assert 0.2 <= time.monotonic() - began < 5
    text = str(missing.value)
    assert text.startswith(f"waited 0.2 s for 1 message to {helpdesk}; 0 of 1 in its inbox match.\nThe inbox has:\n")
    assert "DIRECT from <customer@example.org>" in text
    assert "'Something else'" in text
    assert f"A mail for {helpdesk} would now go to:\n  {helpdesk} (DIRECT)\n  {support} (ALIAS)" in text


def test_a_mail_that_would_be_refused_is_missed_with_the_refusal(readdress: Readdress) -> None:
    closed = readdress.publish("closed", Tags={"readdress:accept": "reject"})
    with pytest.raises(MailMissing, match=r"(?s)The inbox is empty.*would now be refused: 550 5\.2\.1"):
        readdress.wait_for(closed, timeout=0)


def test_an_address_that_nobody_published_has_no_inbox(readdress: Readdress) -> None:
    readdress.publish("support")
    with pytest.raises(MailMissing) as missing:
        readdress.inbox(readdress.address("suport"))
    assert "nobody has published it" in str(missing.value)
    assert f"The test's instance has: {readdress.address('support')}." in str(missing.value)
    assert "would now be refused: 550 5.1.1" in str(missing.value)


def test_a_failure_is_shown_at_the_line_of_the_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_it(readdress):
            support = readdress.publish("support")
            readdress.wait_for(support, timeout=0)
        """
    )
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([">*readdress.wait_for(support, timeout=0)", "E*MailMissing: waited 0 s for*"])
    result.stdout.no_fnmatch_line("*inboxes.py:*")
