"""Benches of the token formula."""
