"""The exchanges of IKEv2, responder's side, one file each."""
