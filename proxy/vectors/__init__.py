"""Vectors to nearest neighbours, within one scope."""
