"""Cryptography of IKE SAs: pseudorandom functions, key exchange, protection of SK payloads."""
