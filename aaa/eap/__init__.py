"""The EAP server (RFC 3748): packets and states in, packets and verdicts out; no socket, no clock, no database."""
