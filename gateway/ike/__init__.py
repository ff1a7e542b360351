"""The IKEv2 protocol (RFC 7296), sans-IO: bytes, values and times in, effects out."""
