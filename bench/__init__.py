"""Measurements: speed beside other programs, accuracy, active learning, and faults."""
