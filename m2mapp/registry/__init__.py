"""Registrations of devices: `/rd` as RFC 9176 has it and `/scls` (spec sections 2 and 12), their lifetimes, and the device's side."""
