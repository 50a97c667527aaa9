"""What a weight file may name: everything the specification lists, each as something inert."""

from __future__ import annotations

import pytest
import torch

from models.safe_load.allowlist import ModuleStandIn, PathStandIn, known_names, unknown_name
from models.safe_load.pickle_reader import Inert, Refused, StandIn

# Names in the pickles of YOLOv5 v5.0 to v7.0 and of torch 1.7 to 2, by module.
LISTED = {
    "models.yolo": "DetectionModel Model Detect",
    "models.common": "Conv C3 Bottleneck SPPF Concat Focus SPP BottleneckCSP C3TR C3Ghost C3SPP "
    "C3x GhostConv GhostBottleneck DWConv CrossConv TransformerBlock TransformerLayer "
    "Contract Expand",
    "models.experimental": "Sum MixConv2d GhostConv GhostBottleneck CrossConv",
    "torch.nn.modules.conv": "Conv2d ConvTranspose2d",
    "torch.nn.modules.batchnorm": "BatchNorm2d SyncBatchNorm",
    "torch.nn.modules.activation": "SiLU LeakyReLU Hardswish ReLU ReLU6 MultiheadAttention",
    "torch.nn.modules.container": "Sequential ModuleList",
    "torch.nn.modules.pooling": "MaxPool2d",
    "torch.nn.modules.upsampling": "Upsample",
    "torch.nn.modules.linear": "Linear Identity NonDynamicallyQuantizableLinear",
    "torch.nn.modules.padding": "ZeroPad2d",
    "torch.nn.parameter": "Parameter",
    "torch._utils": "_rebuild_tensor_v2 _rebuild_parameter _rebuild_parameter_with_state",
    "torch": "HalfStorage FloatStorage LongStorage DoubleStorage IntStorage BoolStorage "
    "ByteStorage Size device",
    "collections": "OrderedDict",
    "builtins": "set",
    "numpy.core.multiarray": "_reconstruct scalar",
    "numpy._core.multiarray": "_reconstruct scalar",
    "numpy": "ndarray dtype",
    "_codecs": "encode",
    "pathlib": "PosixPath WindowsPath PurePosixPath",
    "pathlib._local": "PosixPath WindowsPath PurePosixPath",
}


def test_names_of_official_checkpoints_are_known():
    listed = {f"{module}.{name}" for module in LISTED for name in LISTED[module].split()}
    assert listed <= set(known_names())


def test_layers_paths_and_numpy_become_stand_ins():
    for path, name in known_names().items():
        home = path.partition(".")[0]
        if home in {"models", "numpy", "pathlib", "utils"} or path.startswith("torch.nn.modules."):
            made = name.make(1, "a")
            assert isinstance(made, StandIn)
            assert (made.name, made.arguments, made.state) == (path, (1, "a"), None)
            assert isinstance(made, ModuleStandIn) is (home in {"models", "torch", "utils"})
            assert isinstance(made, PathStandIn) is (home == "pathlib")
    make = known_names()["pathlib.PosixPath"].make
    assert [str(make(*parts)) for parts in (("/", "a", "b"), ("a", "b"), ())] == ["/a/b", "a/b", ""]


@pytest.mark.parametrize(
    ("path", "arguments", "words"),
    [
        ("torch.Size", (("a",),), "impossible size"),
        ("torch.Size", (5,), "without a size"),
        ("collections.OrderedDict", (5,), "not one"),
        ("collections.OrderedDict", ([[(1,), 2]],), "not one"),
        ("collections.OrderedDict", ([["a"]],), "not one"),
        ("builtins.set", ([[1]],), "words and numbers"),
        ("builtins.set", ("abc",), "words and numbers"),
        ("_codecs.encode", ("a", "zlib_codec"), "unknown form"),
        ("_codecs.encode", (b"a", "latin1"), "unknown form"),
        ("torch.FloatStorage", (2**40,), "from nothing"),
        ("torch._utils._rebuild_parameter", ("a", True), "without a tensor"),
        ("torch._utils._rebuild_tensor_v2", (torch.ones(1), 0, (1,), (1,)), "without numbers"),
    ],
)
def test_arguments_that_make_no_sense(path, arguments, words):
    with pytest.raises(Refused, match=words):
        known_names()[path].make(*arguments)


@pytest.mark.parametrize(
    "path",
    [
        *("wandb.sdk.wandb_run.Run", "__main__.hook", "models.common.CBAM"),
        *("datetime.datetime", "torch.torch_version.TorchVersion", "torch.optim.sgd.SGD"),
        *("torch.float16", "builtins.list", "numpy.random._pickle.__randomstate_ctor"),
        *("yolov5.utils.loss.ComputeLoss", "ultralytics.nn.tasks.DetectionModel"),
    ],
)
def test_names_that_nobody_reads_are_inert(path):
    made = unknown_name(path).make({"a": 1}, "b")
    assert isinstance(made, Inert)
    assert (made.arguments, made.state) == ((), None)


def test_the_pip_package_has_the_official_names():
    assert unknown_name("yolov5.models.common.Conv") is known_names()["models.common.Conv"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("posix.system", "asks for posix.system, which"),
        ("nt.system", "asks for nt.system, which"),
        ("yolov5.os.system", "asks for os.system, which"),
        ("torch.load", "asks for torch.load, which"),
        ("wandb.__init__.x", "asks for wandb.__init__.x, which"),
        ("os.a\nb" * 100, "asks for os.a b"),
        ("os.\u202e", r"asks for os.\u202e"),
    ],
)
def test_names_that_can_act_are_refused_in_one_short_readable_line(path, words):
    with pytest.raises(Refused) as caught:
        unknown_name(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250
