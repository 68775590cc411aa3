"""Certificates made for a test: self-signed, for localhost."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def write_certificate(folder: Path, *, serial_number: int) -> tuple[Path, Path]:
    """A new key and its certificate as `chain.pem` and `key.pem` in the folder, put in place at once."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial_number)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    files = {"chain.pem": certificate.public_bytes(serialization.Encoding.PEM), "key.pem": secret}
    for file, content in files.items():
        (folder / f"{file}.new").write_bytes(content)
    for file in files:
        (folder / f"{file}.new").rename(folder / file)
    return folder / "chain.pem", folder / "key.pem"
