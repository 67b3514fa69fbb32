"""What waits and sends for the groups: one small module for each."""
