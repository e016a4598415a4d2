"""HTTP/1.1 as model servers need it: a client of our own on the hot path (decision 0015)."""
