"""The server's certificate: TLS 1.2 at least, and read again when its files change, without a restart.

A certificate that can't be read any more is logged, and the last good one goes on serving.
"""

import logging
import ssl
from pathlib import Path

log = logging.getLogger("readdress.smtp")


class CertificateError(Exception):
    """The certificate or its key can't be used; the text says which."""


class Certificate:
    """A chain and its private key in PEM files."""

    def __init__(self, chain: Path, key: Path) -> None:
        """Raises CertificateError."""
        self._chain = chain
        self._key = key
        self._seen = self._stamp()
        self._context = self._load()

    def context(self) -> ssl.SSLContext:
        """For the next handshake: made of the files as they are now."""
        try:
            stamp = self._stamp()
            if stamp != self._seen:
                self._context = self._load()
                self._seen = stamp
                log.info("the certificate %s was read again", self._chain)
        except CertificateError as error:
            log.warning("%s; the last one stays in use", error)
        return self._context

    def listening_context(self) -> ssl.SSLContext:
        """For a listener, which keeps one context for all its handshakes: each of them asks for the present one."""
        context = self._load()

        def choose(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:  # noqa: ARG001
            connection.context = self.context()

        context.sni_callback = choose
        return context

    def _stamp(self) -> tuple[int, ...]:
        try:
            stats = (self._chain.stat(), self._key.stat())
        except OSError as error:
            raise CertificateError(
                f"cannot read the certificate: {error.filename}: {error.strerror}. Name files that are there in "
                "tls_certificate and tls_key."
            ) from error
        return tuple(value for stat in stats for value in (stat.st_mtime_ns, stat.st_size, stat.st_ino))

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self._chain, self._key)
        except (OSError, ssl.SSLError) as error:
            raise CertificateError(f"cannot use the certificate {self._chain} with {self._key}: {error}") from error
        return context
