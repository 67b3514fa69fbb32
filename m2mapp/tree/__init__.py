"""The resource tree in memory: paths, resource types and their checks, staged and committed changes, watchers, access rules, the dispatcher."""
