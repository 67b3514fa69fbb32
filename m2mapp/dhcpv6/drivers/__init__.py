"""What waits and sends for DHCPv6: the servers' port."""
