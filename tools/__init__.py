"""Command lines for work outside the platform."""
