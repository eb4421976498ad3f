"""TLS towards a core that has a certificate of its own: trusted by its fingerprint, and by nothing else.

The fingerprint is compared inside the handshake: a core with another certificate hears nothing from us, and the event
loop closes the connection with the failed handshake. aiohttp's own `Fingerprint` compares afterwards and leaves the
connection to close by itself; a command that ends meanwhile leaves it open.
"""

from __future__ import annotations

import hashlib
import ssl

from iot_core.errors import RequestError

__all__ = ["OtherCertificate", "fingerprint_bytes", "pinned", "spelled_fingerprint"]


class OtherCertificate(ssl.SSLCertVerificationError):
    """The certificate shown is not the one that is trusted."""

    def __init__(self, shown: bytes) -> None:
        super().__init__("another certificate")
        self.shown = shown
        """SHA-256 of what was shown."""


def pinned(trusted: bytes) -> ssl.SSLContext:
    """Make a context for connections to the one certificate whose SHA-256 is `trusted`."""

    class Pinned(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            shown = hashlib.sha256(self.getpeercert(binary_form=True) or b"").digest()
            if shown != trusted:
                raise OtherCertificate(shown)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # the fingerprint says more than a name
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslobject_class = Pinned
    return context


def fingerprint_bytes(said: str) -> bytes:
    """Read a certificate's SHA-256, with or without colons. Raises RequestError."""
    try:
        digest = bytes.fromhex(said.replace(":", "").replace(" ", ""))
    except ValueError:
        digest = b""
    if len(digest) != hashlib.sha256().digest_size:
        raise RequestError("login.bad_fingerprint")
    return digest


def spelled_fingerprint(digest: bytes) -> str:
    """Write a certificate's SHA-256 as people compare it."""
    return digest.hex(":").upper()
