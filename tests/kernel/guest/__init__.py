"""Tests that run inside the guest, as root of a kernel with ESP; `tests.kernel.relay` brings their results back."""
