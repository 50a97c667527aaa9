"""What counts more: defaults, the set, the file, the task, the task's flags."""

from __future__ import annotations

from settings.detect import InferSettings, MiningSettings
from settings.parse import parse_settings
from settings.setting_layers import merge_layers
from settings.train import TrainSettings


def test_plain_layers_stay_as_they_are() -> None:
    layers = [{"epochs": 3}, {"lr0": 0.1}]
    assert merge_layers(layers, command="train") == (layers, [])


def test_flags_count_more_than_the_keys_beside_them() -> None:
    shared = {"args_options": "--epochs 7 --img 320 --patience 3", "epochs": 1}
    parsed, _ = parse_settings(TrainSettings, shared, {"epochs": 300})
    assert parsed.epochs == 300  # the task's key, over the flags of its settings file
    parsed, _ = parse_settings(TrainSettings, {"epochs": 300, **shared})
    assert (parsed.epochs, parsed.img_size) == (7, 320)


def test_a_set_named_in_the_flags_is_found() -> None:
    task = {"args_options": "--exist-ok --hyp hyp.VOC.yaml --cos-lr", "box": "0.06"}
    parsed, notes = parse_settings(TrainSettings, task)
    assert (parsed.box, parsed.cls, parsed.schedule) == (0.06, 0.21638, "cosine")
    assert "--exist-ok has no effect" in notes[0]


def test_keys_may_be_spelt_as_flags() -> None:
    parsed, _ = parse_settings(TrainSettings, {"--hyp": "voc", "args-options": "--epochs 2"})
    assert (parsed.box, parsed.epochs) == (0.02, 2)


def test_inference_and_mining_read_the_flags_of_detect() -> None:
    for kind in (InferSettings, MiningSettings):
        parsed, notes = parse_settings(
            kind, {"args_options": "--conf-thres 0.4 --save-txt --img 416", "hyp": "no such set"}
        )
        assert (parsed.conf_thres, parsed.img_size) == (0.4, 416)
        assert notes == [
            "--save-txt has no effect in a task: a task writes its detections as the platform's "
            "JSON"
        ]
