"""Signing in: password, then code; and the way in for somebody new, by a one-time link."""
