"""The product on a kernel with ESP: tests that run inside a user-mode Linux of our own, and what boots it."""
