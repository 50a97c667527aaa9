"""Export of a detector to formats of other programs, each file verified against the network."""
