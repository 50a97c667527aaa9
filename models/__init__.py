"""The network: layout, blocks, head, assignment, loss and weights."""
