"""Datagrams: a UDP port that knows destination, interface and zone; addresses; an in-memory network; the monotonic clock."""
