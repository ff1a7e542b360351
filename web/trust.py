"""The root certificate, for devices that are to trust the gateway; public by nature."""

from __future__ import annotations

from cryptography.hazmat.primitives.serialization import Encoding
from flask import Blueprint, Response

from pki.authority import CertificateAuthority
from web.access import Permission, requires
from web.context import runtime

trust = Blueprint("trust", __name__)

PEM_FILE = "ostiary-root.pem"
"""As the gateway names the same certificate in its state directory."""
DER_FILE = "ostiary-root.crt"


@trust.get("/ca.crt")
@requires(Permission.PUBLIC)
def certificate() -> Response:
    """The root CA's certificate in DER, which phones and Windows install on opening it."""
    root = CertificateAuthority.open(runtime()).root
    response = Response(root.public_bytes(Encoding.DER), mimetype="application/x-x509-ca-cert")
    response.headers["Content-Disposition"] = f'attachment; filename="{DER_FILE}"'
    return response


@trust.get("/ca.pem")
@requires(Permission.PUBLIC)
def certificate_pem() -> Response:
    """The same in PEM, for Linux."""
    root = CertificateAuthority.open(runtime()).root
    response = Response(root.public_bytes(Encoding.PEM), mimetype="application/x-pem-file")
    response.headers["Content-Disposition"] = f'attachment; filename="{PEM_FILE}"'
    return response
