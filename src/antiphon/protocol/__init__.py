"""Floor 0: what is said on the wire. Pure: no I/O, no clock, no randomness."""
