"""A hub folder on disk; knows nothing of network or engine."""
