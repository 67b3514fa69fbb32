"""LwM2M (OMA, 1.0 to 1.2): the bootstrap server, its plans, and the records of what it did with each device."""
