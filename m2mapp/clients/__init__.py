"""One sender of requests to URIs: by scheme, to this node itself, to registered devices, to peers, to anyone else."""
