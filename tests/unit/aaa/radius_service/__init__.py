"""What is around the RADIUS server, as far as it needs no socket."""
