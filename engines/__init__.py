"""The network computed by other programs than torch, where they are installed and agree with it."""
