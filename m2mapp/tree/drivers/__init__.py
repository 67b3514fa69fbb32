"""What waits in the tree: first answers under way."""
