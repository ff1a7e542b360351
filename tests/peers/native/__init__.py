"""The clients that Windows, Apple, Android and Linux ship, as far as their first messages go. Not the real ones.

Each message is put together here byte by byte: payloads in the client's order, its proposals with their transforms,
notifies, vendor ids, identities and attributes. Nothing of the product's codec takes part in that; the rest of a
handshake (keys, encryption, EAP) is `tests.peers.initiator`'s.

Where the contents are from:

- Windows: strongSwan's documentation, pages windowsClients, windowsEapServerStatus, windowsUserServerStatus and
  windowsMachineServerStatus (lists of payloads, vendor ids, default suites); logs in trailofbits/algo issues 9 and
  760 and hwdsl2/setup-ipsec-vpn issue 106 (proposals and their order).
- Apple: strongSwan's documentation, page ios; Apple's device-management repository, com.apple.vpn.managed; logs in
  strongX509/docker issue 7, openwrt/packages issue 10042, strongswan/strongswan issue 2861 and libreswan issue 1450.
- Android: AOSP, VpnIkev2Utils.java (Android 11 and 12) and the IKE module's IkeSessionStateMachine.java; the log in
  strongswan/strongswan issue 2189.
- strongSwan's app: android_service.c and proposal.c of strongSwan; NetworkManager's plugin: nm_service.c.
- libreswan: ikev2_ike_sa_init.c.

Those logs tell how many bytes a message had, and the ones built here have just as many (`test_native_messages.py`),
which fixes what the lists leave open: the length of nonces, and one transform more or less. What stands in no list
or log is marked as a guess where it is used.
"""
