"""The one place where what nobody foresaw in a check becomes a verdict: mail is never lost to a check's mistake."""

import logging
from collections.abc import Callable

from readdress.mail.authentication.resolver import DnsTemporaryError

log = logging.getLogger(__name__)


def guarded(method: str, check: Callable[[], tuple[str, str]]) -> tuple[str, str]:
    """The check's (result, reason); `temperror` for DNS trouble, `permerror` for what the check can't bear."""
    try:
        return check()
    except DnsTemporaryError as error:
        return "temperror", str(error)
    except Exception as error:  # noqa: BLE001 - a message or a record in DNS may hold anything
        log.warning("the %s check did not bear a message: %s", method, type(error).__name__)
        return "permerror", "the check did not bear this message"
