"""Measurements: speed beside a peer, and accuracy from scratch."""
