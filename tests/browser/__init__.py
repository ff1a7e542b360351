"""The portal as a person meets it: a real `ostiary web`, Debian's chromium in front of it."""
