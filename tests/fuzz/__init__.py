"""Hostile packets against the IKEv2 responder: `python -m tests.fuzz`."""
