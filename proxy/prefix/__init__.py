"""The provider's prompt cache: what it knows, what it misses and why, and how to make it hit. Pure rooms, no I/O."""
