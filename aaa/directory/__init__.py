"""The company's directories: LDAP servers and Active Directory, asked for people, their groups and their passwords.

What blocks is in `client`, `servers` and `directory`, and runs on threads of its own (`worker`); `filters`,
`accounts` and `plan` are pure.
"""
