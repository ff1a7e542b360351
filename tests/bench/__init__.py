"""Benchmarks: the gateway against Debian's strongSwan, over the same path, in the same run."""
