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


def _clause(number: int, words: str, *, rules: str = "", tests: str) -> Clause:
    files = tuple(f"tests/{name}.py" for name in tests.split())
    return Clause(number, words, tuple(rules.split()), files)


CHECKLIST = (
    _clause(
        1,
        "`/in` read-only, a uid without a passwd entry, HOME unset, 64 MB of shared memory, no "
        "network: training, mining and inference finish",
        rules="task.unreadable monitor.missing monitor.failed monitor.pending tensorboard",
        tests="test_bare_container test_contract utils/test_environment data/test_workers "
        "test_security",
    ),
    _clause(
        2,
        "kill -9 at any moment: `result.yaml` is absent or valid, and every listed file complete",
        rules="result. stages. stage. best_stage_name score legacy. file. weights.load "
        "evaluate_config attachments stray",
        tests="test_start test_interruptions bench/test_faults utils/test_atomic",
    ),
    _clause(
        3,
        "a reader that polls `monitor.txt` 1000 times a second never sees fewer than 4 columns; "
        "progress only rises, times change",
        rules="monitor.columns monitor.time monitor.progress monitor.state monitor.task_id "
        "monitor.encoding monitor.lines",
        tests="bench/test_faults test_start test_train ymir/test_monitor",
    ),
    _clause(
        4,
        "ark (5, 6, 7 columns), VOC and COCO give the trainer identical boxes; background images,"
        " spaces in names, CRLF and a trailing TAB work",
        tests="data/test_read_dataset data/test_index_file data/formats/test_base "
        "tools/test_make_task bench/test_formats",
    ),
    _clause(
        5,
        "all options given as text give the same run as typed ones",
        tests="test_start settings/test_parse ymir/test_task",
    ),
    _clause(
        6,
        "`gpu_id`: `''`, `'0'`, `0`, `'0,1'`, `'0, 1'`, an index out of range",
        tests="ymir/test_task utils/test_device",
    ),
    _clause(
        7,
        "`infer-result.json`: only whole numbers in boxes, every candidate listed, both keys, "
        "scores from 0 to 1",
        rules="json. box.",
        tests="test_start test_contract ymir/test_results",
    ),
    _clause(
        8,
        "`result.tsv`: falling order, one line per candidate, unreadable images last, repeatable",
        rules="tsv.",
        tests="test_start ymir/test_results",
    ),
    _clause(
        9,
        "every return code is reached by a test, and a failure that is not one of memory never "
        "reports 300103",
        rules="monitor.code monitor.not_failed",
        tests="test_return_codes utils/test_classify_error",
    ),
    _clause(
        10,
        "models: listed but flat, bare names, several files, no usable file, unknown class count",
        rules="weights.names box.class_name",
        tests="ymir/test_weights test_contract",
    ),
    _clause(
        11,
        "mining and inference together: both files, progress from 0 to 1 once",
        rules="monitor.unfinished json.missing tsv.missing",
        tests="test_start test_contract",
    ),
    _clause(
        12,
        "with 1.1.0.523 and with a 2.x generation of `ymir_exc` installed: the same results",
        tests="test_sdk_generations ymir/test_results",
    ),
)
