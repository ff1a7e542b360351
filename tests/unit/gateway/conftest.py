"""Property tests have no time limit for one example: a busy machine is not a bug."""

from hypothesis import settings

settings.register_profile("gateway", deadline=None, max_examples=60)
settings.load_profile("gateway")
