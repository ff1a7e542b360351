"""`ostiary radius`: sockets, clock and secrets around `aaa.radius`."""
