"""The network: model files, blocks, head, target assignment, loss and checkpoints."""
