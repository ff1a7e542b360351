"""Why a handshake failed or took long, in words for an operator: values in, text out; no socket, no clock."""
