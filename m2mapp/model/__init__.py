"""What every part speaks: requests, answers, principals, errors, interfaces, metrics. Imports nothing of the rest."""
