"""The steps of the schema: `0001.sql` makes version 1, each further file raises the version before it by one. Only SQL stands here."""
