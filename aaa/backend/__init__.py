"""The parts of the in-process backend: the database thread, what is asked of it, and how it answers."""
