"""RADIUS, sans-IO: what is on the wire, and the server that answers it. Sockets are in `aaa.radius_service`."""
