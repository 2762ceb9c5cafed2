"""Whose key: clients with keys of their own, and the provider's key in the proxy's hands."""
