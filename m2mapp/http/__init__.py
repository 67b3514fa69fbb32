"""The HTTP edge on twisted.web: the resource API, event streams, problem details, tokens, metrics. Knows nothing of CoAP."""
