"""What waits for others: one bootstrap session with one device."""
