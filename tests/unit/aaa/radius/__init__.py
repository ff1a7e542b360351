"""Tests of the RADIUS server, without a socket."""
