"""The rules of options that tasks of several kinds have in common."""

from __future__ import annotations

from settings.options import rule

SIZE = rule(
    "longest side of the network's input", 32, 8192, unit="pixels, a multiple of 32", multiple=32
)
WORKERS = rule("processes that read images, -1 for as many as fit the machine", -1, 128)
SEED = rule("start of every random sequence", 0, 2**31 - 1)
WEIGHTS = rule("weight file to use; '' for those that the platform hands in")
WEIGHTS_DIR = rule("folder in which weight files are looked for, before the image's own /weights")
ARGS = rule("command line of v7.0 in one string, such as '--img 320 --half'")
MAX_DET = rule("most detections kept per image", 1, 10000)
BAD = rule("share of unusable images or annotations above which the task fails", 0, 1)
PRECISION = rule(
    "arithmetic of the network; auto takes bfloat16 where the hardware has it",
    choices=("auto", "float32", "bfloat16"),
    synonyms={"fp32": "float32", "32": "float32", "bf16": "bfloat16"},
)
