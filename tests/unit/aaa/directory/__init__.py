"""The directories, as far as they need no network."""
