"""ESP in Python between a TUN device and the gateway's sockets, for kernels without ESP."""
