"""The detector in Python programs of your own."""
