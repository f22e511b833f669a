"""The Hub's protocol, served from a store."""
