"""Export of a detector to formats of other programs, each file verified against the network."""

from utils.environment import QUIET as QUIET  # set before a module here imports onnxruntime
