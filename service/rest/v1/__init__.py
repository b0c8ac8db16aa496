"""The protocol of `/v1`."""
