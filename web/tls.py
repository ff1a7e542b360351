"""The portal's TLS: a certificate of our own CA, whose key never touches the disk in the clear."""

from __future__ import annotations

import os
import ssl
import threading

import structlog

from core.errors import OstiaryError
from core.runtime import Runtime
from pki.authority import CertificateAuthority
from pki.system import SystemCertificate, portal_names, system_certificate

RENEWAL_CHECK_S = 3600.0
# All of TLS 1.3, and of TLS 1.2 what has forward secrecy and authenticated encryption.
TLS12_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"

log = structlog.stdlib.get_logger(__name__)


def portal_certificate(runtime: Runtime) -> SystemCertificate:
    """The portal's certificate, issued or renewed where that is due."""
    authority = CertificateAuthority.open(runtime)
    return system_certificate(runtime, authority, "portal", portal_names(runtime.settings))


def make_context(certificate: SystemCertificate) -> ssl.SSLContext:
    """A server context, TLS 1.2 or newer.

    OpenSSL reads keys from files only; this one is in memory (memfd_create(2)) and gone with its descriptor.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(TLS12_CIPHERS)
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    descriptor = os.memfd_create("portal-key", os.MFD_CLOEXEC)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(certificate.private_key_pem().reveal())
            file.write(certificate.chain_pem().encode())
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
    return context


class PortalTls:
    """The context for new connections; a renewed certificate is taken up without a restart.

    Args:
        runtime: of this process.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._stop = threading.Event()
        certificate = portal_certificate(runtime)
        self._serial = certificate.serial
        self._context = make_context(certificate)

    @property
    def context(self) -> ssl.SSLContext:
        """For the connection that is accepted now."""
        return self._context

    def watch(self) -> None:
        """Look for a new certificate every hour, in a thread of its own."""
        threading.Thread(target=self._watch, name="portal-certificate", daemon=True).start()

    def stop(self) -> None:
        """End the watching."""
        self._stop.set()

    def refresh(self) -> bool:
        """Take up a new certificate where there is one; True if so."""
        certificate = portal_certificate(self._runtime)
        if certificate.serial == self._serial:
            return False
        self._context = make_context(certificate)
        self._serial = certificate.serial
        log.info("portal certificate renewed", serial=certificate.serial, not_after=certificate.not_after.isoformat())
        return True

    def _watch(self) -> None:
        while not self._stop.wait(RENEWAL_CHECK_S):
            try:
                self.refresh()
            except OstiaryError as error:
                # The old one is good for another third of its life; the next hour tries again.
                log.error("portal certificate can't be renewed", error=error.message)
            except Exception:
                log.exception("portal certificate can't be renewed")
