"""The checklist at the end of the protocol: each clause with its tests and the checker's rules."""

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
            "tests/test_bare_container.py::test_it_is_as_hard_as_it_says",
            "tests/test_bare_container.py::test_a_whole_task",
            "tests/test_bare_container.py::test_live_code",
            "tests/test_start.py::test_a_nameless_user_without_a_home",
            "tests/test_contract.py::test_nothing_is_written_beside_the_data",
            "tests/utils/test_environment.py::test_a_home_is_provided_where_there_is_none",
            "tests/data/test_workers.py::test_worker_count",
            "tests/data/test_workers.py::test_no_shared_memory_means_no_workers",
            "tests/test_security.py::test_only_a_task_that_asks_for_it_reaches_the_network",
        ),
    ),
    Clause(
        2,
        "kill -9 at any moment: `result.yaml` is absent or valid, and every listed file complete",
        ("result.", "stages.", "stage.", "best_stage_name", "score", "legacy.", "file.",
         "weights.load", "evaluate_config", "attachments", "stray"),
        (
            "tests/test_start.py::test_a_killed_training_keeps_its_best_model",
            "tests/test_killed_process.py::"
            "test_one_is_killed_all_end_and_the_task_can_be_started_again",
            "tests/bench/test_faults.py::test_signals",
            "tests/utils/test_atomic.py::test_readers_see_the_old_file_until_the_new_one_is_whole",
            "tests/test_told_to_stop.py::test_a_training_that_hangs_leaves_a_valid_result",
        ),
    ),
    Clause(
        3,
        "a reader that polls `monitor.txt` 1000 times a second never sees fewer than 4 columns; "
        "progress only rises, times change",
        ("monitor.columns", "monitor.time", "monitor.progress", "monitor.state",
         "monitor.task_id", "monitor.encoding", "monitor.lines"),
        (
            "tests/bench/test_faults.py::test_signals",
            "tests/test_start.py::test_a_killed_training_keeps_its_best_model",
            "tests/test_train.py::test_progress_rises_while_the_network_is_evaluated",
            "tests/ymir/test_monitor.py::test_a_reader_never_sees_half_a_record",
            "tests/ymir/test_monitor.py::test_progress_never_falls_and_stays_in_its_range",
            "tests/ymir/test_monitor.py::"
            "test_time_changes_even_when_the_clock_stands_or_is_set_back",
        ),
    ),
    Clause(
        4,
        "ark (5, 6, 7 columns), VOC and COCO give the trainer identical boxes; background images, "
        "spaces in names, CRLF and a trailing TAB work",
        (),
        (
            "tests/data/test_dataset_index.py::test_every_format_gives_the_same_data_set",
            "tests/data/test_index_file.py::test_index_rules",
            "tests/data/formats/test_base.py::test_ark_columns",
            "tests/data/formats/test_base.py::test_ark_one_pixel_box_and_background",
            "tests/tools/test_make_task.py::test_our_reader_gets_the_same_boxes_back",
            "tests/bench/test_formats.py::test_every_format_trains_mines_and_infers_alike",
            "tests/bench/test_formats.py::test_all_of_bccd_is_equal_in_three_formats",
        ),
    ),
    Clause(
        5,
        "all options given as text give the same run as typed ones",
        (),
        (
            "tests/test_start.py::test_typed_settings_run_as_text_does",
            "tests/settings/test_parse.py::test_every_option_as_text_gives_the_same_settings",
            "tests/ymir/test_task.py::test_all_options_as_text_give_the_same_task",
        ),
    ),
    Clause(
        6,
        "`gpu_id`: `''`, `'0'`, `0`, `'0,1'`, `'0, 1'`, an index out of range",
        (),
        (
            "tests/ymir/test_task.py::test_gpu_ids",
            "tests/utils/test_device.py::test_ids_count_among_the_visible",
            "tests/utils/test_device.py::test_no_ids_mean_the_cpu_even_beside_a_gpu",
        ),
    ),
    Clause(
        7,
        "`infer-result.json`: only whole numbers in boxes, every candidate listed, both keys, "
        "scores from 0 to 1",
        ("json.", "box."),
        (
            "tests/test_start.py::test_looking_at_candidates",
            "tests/test_contract.py::test_each_platform_finds_the_detections_under_its_key",
            "tests/ymir/test_results.py::test_random_boxes_always_fit",
            "tests/ymir/test_results.py::test_both_keys_whatever_the_protocol",
            "tests/ymir/test_results.py::test_every_candidate_is_listed",
        ),
    ),
    Clause(
        8,
        "`result.tsv`: falling order, one line per candidate, unreadable images last, repeatable",
        ("tsv.",),
        (
            "tests/test_start.py::test_a_bad_image_among_good_ones_is_named_and_ranked_last",
            "tests/test_start.py::test_mining_with_inference_gives_the_files_of_each_alone",
            "tests/ymir/test_results.py::"
            "test_mining_scores_fall_and_unreadable_images_come_last",
        ),
    ),
    Clause(
        9,
        "every return code is reached by a test, and a failure that is not one of memory never "
        "reports 300103",
        ("monitor.code", "monitor.not_failed"),
        (
            "tests/test_return_codes.py::test_every_code_has_its_cause",
            "tests/test_return_codes.py::test_a_task_ends_with_the_code_of_its_cause",
            "tests/test_return_codes.py::test_memory_that_runs_out",
            "tests/utils/test_classify_error.py::test_each_failure_has_its_code_and_a_sentence",
            "tests/utils/test_classify_error.py::test_words_about_memory_are_no_lack_of_it",
        ),
    ),
    Clause(
        10,
        "models: listed but flat, bare names, several files, no usable file, unknown class count",
        ("weights.names", "box.class_name"),
        (
            "tests/ymir/test_weights.py::test_weights",
            "tests/ymir/test_weights.py::"
            "test_a_list_without_usable_weights_is_refused_with_what_was_offered",
            "tests/test_contract.py::test_weights_with_other_classes",
        ),
    ),
    Clause(
        11,
        "mining and inference together: both files, progress from 0 to 1 once",
        ("monitor.unfinished", "json.missing", "tsv.missing"),
        (
            "tests/test_start.py::test_looking_at_candidates",
            "tests/test_contract.py::test_progress_is_whole_only_when_all_is_written",
        ),
    ),
    Clause(
        12,
        "with 1.1.0.523 and with a 2.x generation of `ymir_exc` installed: the same results",
        (),
        (
            "tests/test_sdk_generations.py::test_a_task_ends_alike_whatever_is_installed",
            "tests/test_sdk_generations.py::test_stages",
            "tests/ymir/test_results.py::test_training",
        ),
    ),
)  # fmt: skip
