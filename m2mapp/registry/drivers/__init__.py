"""What waits and sends for the registrations: the device's own registering."""
