"""Measurements behind single decisions, which are not repeated with every change."""
