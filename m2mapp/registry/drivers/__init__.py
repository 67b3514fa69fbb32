"""What waits and sends for the registrations: the end of lifetimes, and the device's own registering."""
