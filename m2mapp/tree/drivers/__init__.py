"""What waits in the tree: first answers under way, and the end of lifetimes."""
