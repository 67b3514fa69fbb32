"""What waits and sends for DHCPv6: the servers' port, the client's, and the uplink that it serves."""
