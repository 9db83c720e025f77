"""Finding other domains: DNS, DID documents, and the one client that asks addresses which strangers chose."""
