"""Real peers against the product, in network namespaces."""
