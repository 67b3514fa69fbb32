"""m2mapp: group requests, triggered operations, addresses and bootstrapping for M2M devices, in one Twisted process."""

__version__ = "0.1.0"
