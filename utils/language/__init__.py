"""Texts for users in another language than English."""
