"""What the clients on devices are set up with: values for all of them, a script for Windows, a profile for Apple.

All of it is public but for the user's name. Nothing here holds an access code or a key.
"""
