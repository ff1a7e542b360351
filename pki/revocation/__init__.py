"""Whether a certificate was revoked: asked of other CAs by OCSP and CRLs, and answered for our own gateway."""
