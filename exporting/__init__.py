"""The network in formats that other programs read, each file held against the network."""
