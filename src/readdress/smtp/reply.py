"""What the server says: a code, an enhanced status code, and a text that reveals nothing inside (RFC 5321 §4.2, 3463).

Whether a refusal is temporary (4xx) or permanent (5xx) is decided here, in one table. What we could not do is never
the sender's fault, so it is never a 5xx.
"""

from functools import lru_cache
from typing import NamedTuple


class Reply(NamedTuple):
    code: int
    enhanced: str
    text: str

    @property
    def is_positive(self) -> bool:
        return self.code < 400

    def __str__(self) -> str:
        return f"{self.code} {self.enhanced} {self.text}" if self.enhanced else f"{self.code} {self.text}"

    @lru_cache(maxsize=256)  # noqa: B019 - nearly all of them are those below
    def encode(self) -> bytes:
        return f"{self}\r\n".encode()


OK = Reply(250, "2.0.0", "OK")
SENDER_OK = Reply(250, "2.1.0", "sender OK")
RECIPIENT_OK = Reply(250, "2.1.5", "recipient OK")
CLOSING = Reply(221, "2.0.0", "closing the connection")
START_TLS = Reply(220, "2.0.0", "ready to start TLS")
START_CONTENT = Reply(354, "", "end with <CRLF>.<CRLF>")
CANNOT_VERIFY = Reply(252, "2.1.5", "cannot verify; send the mail and see")  # RFC 5321 §3.5.3
CHUNK_OK = Reply(250, "2.0.0", "chunk taken")
HELP = Reply(214, "2.0.0", "HELO EHLO LHLO STARTTLS MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT")

TOO_MANY_CONNECTIONS = Reply(421, "4.7.0", "too many connections, try again later")
SHUTTING_DOWN = Reply(421, "4.3.2", "the service is shutting down, try again later")
TIMED_OUT = Reply(421, "4.4.2", "nothing came for too long, closing the connection")
TOO_MANY_ERRORS = Reply(421, "4.7.0", "too many errors, closing the connection")
# RFC 9422 names no reply for who goes on after MAILMAX. 421, since with another 4xx a sender that does not know LIMITS
# would put off all that it has left for this session, and a new session takes it at once.
SESSION_USED_UP = Reply(421, "4.5.0", "enough messages for one session, connect again")
# Of a peer that asks for too much: policy (RFC 3463 §3.8), and temporary, so that nothing is lost.
TOO_MANY_MESSAGES = Reply(451, "4.7.1", "too many messages from you in a minute, try again later")
TOO_MANY_BAD_RECIPIENTS = Reply(450, "4.7.1", "too many unknown recipients from you in a minute, try again later")
STORE_TROUBLE = Reply(451, "4.3.0", "cannot store or look up now, try again later")
STORE_FULL = Reply(452, "4.3.1", "no room to store the message now, try again later")
TOO_MANY_RECIPIENTS = Reply(452, "4.5.3", "too many recipients, send the rest in another message")
ROUTE_CHANGED = Reply(451, "4.3.0", "a recipient changed meanwhile, send the message again")

LINE_TOO_LONG = Reply(500, "5.5.2", "line too long")
BARE_LINE_END = Reply(500, "5.5.2", "a line ends with CRLF and holds no other CR, LF or NUL")
UNKNOWN_COMMAND = Reply(500, "5.5.1", "command not recognised")
SYNTAX_ERROR = Reply(501, "5.5.4", "syntax error in parameters")
NO_PARAMETERS = Reply(501, "5.5.4", "this command takes no parameters")
BAD_EHLO = Reply(501, "5.5.4", "give a domain or an address literal")
BAD_SENDER = Reply(501, "5.1.7", "not a valid sender path")
BAD_RECIPIENT = Reply(501, "5.1.3", "not a valid recipient path")
UNKNOWN_PARAMETER = Reply(555, "5.5.4", "unknown parameter")
# RFC 6531 §3.5 gives the two their codes.
SENDER_NEEDS_SMTPUTF8 = Reply(550, "5.6.7", "give SMTPUTF8 with MAIL to use such an address")
RECIPIENT_NEEDS_SMTPUTF8 = Reply(553, "5.6.7", "give SMTPUTF8 with MAIL to use such an address")
TLS_ALREADY = Reply(503, "5.5.1", "TLS is in use already")
NOT_IMPLEMENTED = Reply(502, "5.5.1", "command not implemented")
HELLO_FIRST = Reply(503, "5.5.1", "introduce yourself first, with EHLO in SMTP and LHLO in LMTP")
WRONG_HELLO = Reply(500, "5.5.1", "SMTP begins with EHLO or HELO, LMTP with LHLO")  # RFC 2033 §4.1
MAIL_FIRST = Reply(503, "5.5.1", "send MAIL first")
MAIL_TWICE = Reply(503, "5.5.1", "a mail transaction is open already, send RSET to begin again")
RECIPIENT_FIRST = Reply(503, "5.5.1", "no valid recipient")
MIXED_CONTENT = Reply(503, "5.5.1", "the message was begun with BDAT, go on with BDAT or send RSET")  # RFC 3030 §2
BINARY_WANTS_BDAT = Reply(503, "5.5.1", "a message with BODY=BINARYMIME comes by BDAT")  # RFC 3030 §3
BAD_CHUNK = Reply(501, "5.5.4", "give BDAT a number of octets, and LAST for the last of them")
EARLY_TALKER = Reply(554, "5.5.0", "you spoke before it was your turn")
UNKNOWN_RECIPIENT = Reply(550, "5.1.1", "no such address here")
ADDRESS_DISABLED = Reply(550, "5.2.1", "this address takes no mail")
ADDRESS_PAUSED = Reply(450, "4.2.1", "this address takes no mail now, try again later")
NOT_OUR_DOMAIN = Reply(550, "5.7.1", "we do not take mail for that domain")
BARE_CONTENT = Reply(550, "5.5.2", "the message has a CR, LF or NUL outside a line end CRLF")
CONTENT_LINE_TOO_LONG = Reply(550, "5.6.0", "the message has a line that is too long")
TOO_BIG = Reply(552, "5.3.4", "the message is too big")
HEADER_TOO_BIG = Reply(552, "5.3.4", "the header of the message is too big")
SPOOFED = Reply(550, "5.7.1", "the domain of the author says to refuse such mail (DMARC)")
LOOP = Reply(554, "5.4.6", "the message has gone through too many hosts, it loops")


def accepted(message_id: str) -> Reply:
    return Reply(250, "2.0.0", f"accepted {message_id}")
