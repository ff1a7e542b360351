"""The kernel's ESP, driven over netlink (XFRM)."""
