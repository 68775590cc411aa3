"""A pytest plugin for programs that use Connect's email addresses: a service inside the test run, new for every test.

Importing it imports nothing of the service and no AWS SDK; the first test that asks for `readdress` does.
"""

from readdress.testing.mail import MailMissing, Message
from readdress.testing.scope import Published, Readdress

__all__ = ["MailMissing", "Message", "Published", "Readdress"]
