"""What waits and sends for operations: the engine, its runs, what is fetched from elsewhere."""
