"""Choosing which images people should label next."""
