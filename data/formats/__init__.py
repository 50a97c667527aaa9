"""Annotation formats: one module each, which registers the format in `base.FORMATS`."""
