"""Addresses and the bootstrap address by DHCPv6: requesting router, server, delegating server, the device's client."""
