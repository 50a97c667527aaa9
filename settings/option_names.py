"""What options are called elsewhere: in YOLOv5 v7.0, older YMIR repositories, the platform."""

from __future__ import annotations

# Another name of an option, and what it is called here.
ALIASES = {
    "batch": "batch_size",
    "batch_size_per_gpu": "batch_size",
    "imgsz": "img_size",
    "img": "img_size",
    "image_size": "img_size",
    "num_workers": "workers",
    "num_workers_per_gpu": "workers",
    "cfg": "model",
    "cos_lr": "schedule",
    "nbs": "nominal_batch_size",
    "conf": "conf_thres",
    "confidence": "conf_thres",
    "conf_threshold": "conf_thres",
    "iou": "iou_thres",
    "iou_threshold": "iou_thres",
    "max_detections": "max_det",
    "opset_version": "opset",
    "simplify": "onnx_simplify",
}

# Options of those repositories that this version does not act on.
NOT_SUPPORTED = frozenset(
    {
        "device",
        "dnn",
        "evolve",
        "pin_memory",
        "save_best_only",
    }
)

# Options that v7.0 knows and does not use.
WITHOUT_EFFECT = {"iou_t": "v7.0 does not use it either"}

# Keys of config.yaml that are the platform's own (protocol section 5).
PLATFORM_KEYS = frozenset(
    {
        "class_names",
        "code_config",
        "export_format",
        "git_branch",
        "git_url",
        "gpu_count",
        "gpu_id",
        "model_params_path",
        "object_type",
        "openpai_enable",
        "pretrained_model_params",
        "pypi_mirror",
        "run_infer",
        "run_mining",
        "run_training",
        "shm_size",
        "task_id",
    }
)
