"""The resource tree in memory: paths, types and their checks, staged and committed changes, watchers, access rules, the dispatcher."""
