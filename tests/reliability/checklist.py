"""Checklist of the protocol (section 13): each clause, its test files and the checker's rules."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Clause:
    """One line of the protocol's section 13.

    `rules` are those by which `tools.check_out` sees it in what any task has left; a name that ends
    in a dot stands for all rules that begin so. None where it is about what goes in.
    """

    number: int
    words: str
    rules: tuple[str, ...]
    tests: tuple[str, ...]


CHECKLIST = (
    Clause(
        1,
        "`/in` read-only, a uid without a passwd entry, HOME unset, 64 MB of shared memory, no "
        "network: training, mining and inference finish",
        ("task.unreadable", "monitor.missing", "monitor.failed", "monitor.pending", "tensorboard"),
        (
            "tests/test_bare_container.py",
            "tests/test_start.py",
            "tests/test_contract.py",
            "tests/utils/test_environment.py",
            "tests/data/test_workers.py",
            "tests/test_security.py",
        ),
    ),
    Clause(
        2,
        "kill -9 at any moment: `result.yaml` is absent or valid, and every listed file complete",
        ("result.", "stages.", "stage.", "best_stage_name", "score", "legacy.", "file.",
         "weights.load", "evaluate_config", "attachments", "stray"),
        (
            "tests/test_start.py",
            "tests/test_interruptions.py",
            "tests/bench/test_faults.py",
            "tests/utils/test_atomic.py",
        ),
    ),
    Clause(
        3,
        "a reader that polls `monitor.txt` 1000 times a second never sees fewer than 4 columns; "
        "progress only rises, times change",
        ("monitor.columns", "monitor.time", "monitor.progress", "monitor.state",
         "monitor.task_id", "monitor.encoding", "monitor.lines"),
        (
            "tests/bench/test_faults.py",
            "tests/test_start.py",
            "tests/test_train.py",
            "tests/ymir/test_monitor.py",
        ),
    ),
    Clause(
        4,
        "ark (5, 6, 7 columns), VOC and COCO give the trainer identical boxes; background images, "
        "spaces in names, CRLF and a trailing TAB work",
        (),
        (
            "tests/data/test_read_dataset.py",
            "tests/data/test_index_file.py",
            "tests/data/formats/test_base.py",
            "tests/tools/test_make_task.py",
            "tests/bench/test_formats.py",
        ),
    ),
    Clause(
        5,
        "all options given as text give the same run as typed ones",
        (),
        (
            "tests/test_start.py",
            "tests/settings/test_parse.py",
            "tests/ymir/test_task.py",
        ),
    ),
    Clause(
        6,
        "`gpu_id`: `''`, `'0'`, `0`, `'0,1'`, `'0, 1'`, an index out of range",
        (),
        (
            "tests/ymir/test_task.py",
            "tests/utils/test_device.py",
        ),
    ),
    Clause(
        7,
        "`infer-result.json`: only whole numbers in boxes, every candidate listed, both keys, "
        "scores from 0 to 1",
        ("json.", "box."),
        (
            "tests/test_start.py",
            "tests/test_contract.py",
            "tests/ymir/test_results.py",
        ),
    ),
    Clause(
        8,
        "`result.tsv`: falling order, one line per candidate, unreadable images last, repeatable",
        ("tsv.",),
        (
            "tests/test_start.py",
            "tests/ymir/test_results.py",
        ),
    ),
    Clause(
        9,
        "every return code is reached by a test, and a failure that is not one of memory never "
        "reports 300103",
        ("monitor.code", "monitor.not_failed"),
        (
            "tests/test_return_codes.py",
            "tests/utils/test_classify_error.py",
        ),
    ),
    Clause(
        10,
        "models: listed but flat, bare names, several files, no usable file, unknown class count",
        ("weights.names", "box.class_name"),
        (
            "tests/ymir/test_weights.py",
            "tests/test_contract.py",
        ),
    ),
    Clause(
        11,
        "mining and inference together: both files, progress from 0 to 1 once",
        ("monitor.unfinished", "json.missing", "tsv.missing"),
        (
            "tests/test_start.py",
            "tests/test_contract.py",
        ),
    ),
    Clause(
        12,
        "with 1.1.0.523 and with a 2.x generation of `ymir_exc` installed: the same results",
        (),
        (
            "tests/test_sdk_generations.py",
            "tests/ymir/test_results.py",
        ),
    ),
)  # fmt: skip
