"""Load tests of a running server, whose address is all that they know of it."""
