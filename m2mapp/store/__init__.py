"""The tree and the journals on disk: SQLite, schema files with a version, the order of writing. The only SQL."""
