"""The flags of tools and benchmarks, and their help: nothing that takes time is imported here."""

from __future__ import annotations

import argparse
from pathlib import Path

from cli.parsers import Parser
from data.index_file import SPLITS

FORMATS = ("ark", "voc", "coco")
"""Of the annotations in a task."""
KINDS = ("training", "mining", "infer", "mining+infer")
PROTOCOL = "1.1.0"
SMALLEST = 96
"""Least width and height of a drawn picture, pixels."""


def make_task_parser() -> Parser:
    """Return the parser of tools.make_task."""
    parser = Parser(
        "python -m tools.make_task",
        "DATA TASKDIR [--kind KIND] [--weights FILE] [--set KEY=VALUE] [flags]",
        "Make a YMIR task directory (in/, out/) from a labelled data set, as the platform exports\n"
        "it; python start.py --env TASKDIR/in/env.yaml runs it.",
    )
    add = parser.add_argument
    add("data", type=Path, metavar="DATA", help="a data set: VOC, COCO, YOLO, labelme")
    add("task_dir", type=Path, metavar="TASKDIR", help="folder that gets in/ and out/")
    kinds = f"one of {', '.join(KINDS)} (default {KINDS[0]})"
    add("--kind", dest="kinds", default=KINDS[0], metavar="KIND", help=kinds)
    add(
        *("--format",),
        dest="annotation_format",
        default=FORMATS[0],
        choices=FORMATS,
        metavar="FORMAT",
        help=f"of the annotations: {', '.join(FORMATS)} (default {FORMATS[0]})",
    )
    setting = "a setting of the task, such as epochs=10; repeatable"
    add("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE", help=setting)
    weights = "model files of the task (default: none)"
    add("--weights", type=Path, nargs="*", default=[], metavar="FILE", help=weights)
    gpus = "numbers of GPUs with commas, such as 0,1; '' is the CPU (default '')"
    add("--gpu-id", default="", metavar="GPUS", help=gpus)
    add("--limit", type=int, metavar="N", help="images of each split at most (default: all)")
    protocol = f"version of YMIR's protocol, or none for that before 1.1.0 (default {PROTOCOL})"
    add("--protocol", default=PROTOCOL, metavar="VERSION", help=protocol)
    classes = "classes in this order, others are left out (default: all of the data set)"
    add("--class-names", nargs="*", metavar="NAME", help=classes)
    split = "split to mine or infer on (default: the first of test, val, train with images)"
    add("--candidates", choices=SPLITS, metavar="SPLIT", help=split)
    add("--copy", action="store_true", help="copy images: the task can be moved or mounted")
    add("--overwrite", action="store_true", help="replace an earlier task there")
    return parser


def demo_parser() -> Parser:
    """Return the parser of tools.demo."""
    parser = Parser(
        "python -m tools.demo",
        "[--data FOLDER] [--weights FILE] [--out FOLDER] [--set KEY=VALUE] [flags]",
        "Draw or take a data set, train, then mine and infer, through start.py, and show it:\n\n"
        "python -m tools.demo --data path/to/voc --limit 64 --set epochs=10 --set img_size=320\n"
        "python -m tools.demo --data path/to/voc --weights yolov5n.pt",
    )
    add = parser.add_argument
    data = "a VOC, COCO or YOLO folder (default: 240 drawn images)"
    add("--data", type=Path, metavar="FOLDER", help=data)
    weights = "checkpoint to start from, such as yolov5n.pt (default: from scratch)"
    add("--weights", type=Path, metavar="FILE", help=weights)
    out = "for all results, replaced if an earlier demo is there (default %(default)s)"
    add("--out", type=Path, default=Path("runs/demo"), metavar="FOLDER", help=out)
    setting = "a setting of the training, such as epochs=10; repeatable"
    add("--set", action="append", default=[], metavar="KEY=VALUE", help=setting)
    add("--limit", type=int, metavar="N", help="images of each split at most (default: all)")
    return parser


def draw_dataset_parser() -> Parser:
    """Return the parser of tools.draw_dataset."""
    parser = Parser(
        "python -m tools.draw_dataset",
        "OUT [--images N] [--size W H] [--seed N] [--mixed]",
        "Draw a data set in VOC form: pictures like stained blood smears, with exact boxes.",
    )
    add = parser.add_argument
    add("out", type=Path, metavar="OUT", help="folder to write")
    add("--images", type=int, default=240, metavar="N", help="pictures (default %(default)s)")
    size = f"width and height, pixels, {SMALLEST} at least (default 320 240)"
    add("--size", type=int, nargs=2, default=(320, 240), metavar=("W", "H"), help=size)
    add("--seed", type=int, default=0, metavar="N", help="random seed (default %(default)s)")
    add("--mixed", action="store_true", help="mixed sizes, crowded and empty scenes, odd names")
    return parser


def check_out_parser() -> Parser:
    """Return the parser of tools.check_out."""
    parser = Parser(
        "python -m tools.check_out",
        "TASKDIR [--failed]",
        "Check what a finished task left in out/ against the YMIR protocol, in plain sentences.",
    )
    parser.add_argument("task_dir", type=Path, metavar="TASKDIR", help="folder with in/ and out/")
    parser.add_argument("--failed", action="store_true", help="the task was meant to fail")
    return parser


def same_numbers_parser() -> Parser:
    """Return the parser of bench.same_numbers."""
    parser = Parser(
        "python -m bench.same_numbers",
        "record CHECKOUT OUT --data FOLDER --weights FILE | compare BEFORE AFTER",
        "Record the seeded results of a checkout, and compare two records to the last bit.",
    )
    commands = parser.add_subparsers(
        dest="command",
        required=True,
        parser_class=argparse.ArgumentParser,
        prog=parser.prog,
        help="what to do; record --help and compare --help list the flags",
    )
    add = commands.add_parser("record", help="run a checkout's programs").add_argument
    add("checkout", type=Path, metavar="CHECKOUT", help="folder of the checkout")
    add("out", type=Path, metavar="OUT", help="the record, a JSON file")
    add("--data", type=Path, required=True, metavar="FOLDER", help="a VOC data set")
    add("--weights", type=Path, required=True, metavar="FILE", help="weights trained on it")
    names = ["WBC", "RBC", "Platelets"]
    told = f"classes of both (default {' '.join(names)})"
    add("--class-names", nargs="+", default=names, metavar="NAME", help=told)
    parts = "parts to record, such as 'mining-*' (default: all)"
    add("--only", nargs="+", default=["*"], metavar="PART", help=parts)
    work = "new folder that keeps all results (default: nothing is kept)"
    add("--work", type=Path, metavar="FOLDER", help=work)
    add = commands.add_parser("compare", help="print what differs between two records").add_argument
    add("before", type=Path, metavar="BEFORE", help="a record, a JSON file")
    add("after", type=Path, metavar="AFTER", help="another one")
    return parser
