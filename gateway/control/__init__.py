"""RADIUS dynamic authorization (RFC 5176), the gateway's side: who may end a session, and how it is answered."""
