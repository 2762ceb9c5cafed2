"""The side of the providers: which one, over which connection."""
