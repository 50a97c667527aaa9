"""Settings that are odd, wrong or hostile: env.yaml, config.yaml, class names, sizes."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.reliability.case import Case, Ending, Fate, Meet, refused, taken
from utils.errors import Code, TaskError
from ymir.task import read_task
from ymir.task_types import Task


def settings(**config: object) -> Meet:
    """A training with these keys in its config.yaml."""
    return _task({}, {"class_names": ["helmet", "vest"], "gpu_id": "", **config})


def env(**change: object) -> Meet:
    """A training with these keys in its env.yaml."""
    return _task(change, {"class_names": ["helmet", "vest"], "gpu_id": ""})


def _task(env: dict[str, object], config: dict[str, object]) -> Meet:
    def meet(folder: Path) -> Ending:
        (folder / "in").mkdir()
        environment = {"protocol_version": "1.1.0", "task_id": "t1", "run_training": True, **env}
        environment.setdefault("input", {"root_dir": str(folder / "in")})
        (folder / "in" / "env.yaml").write_text(yaml.safe_dump(environment), "utf-8")
        (folder / "in" / "config.yaml").write_text(yaml.safe_dump(config), "utf-8")
        return _read(folder)

    return meet


def file(content: bytes, name: str = "config.yaml") -> Meet:
    """One of the two files with this content."""

    def meet(folder: Path) -> Ending:
        (folder / "in").mkdir()
        root = str(folder / "in")
        both = {"env.yaml": f"run_training: true\ninput: {{root_dir: '{root}'}}\n".encode()}
        both["config.yaml"] = b"class_names: [helmet, vest]\n"
        for key, text in {**both, name: content.replace(b"{in}", root.encode())}.items():
            (folder / "in" / key).write_bytes(text)
        return _read(folder)

    return meet


def _read(folder: Path) -> Ending:
    try:
        task = read_task(folder / "in" / "env.yaml")
    except TaskError as error:
        return Ending(Fate.REFUSED, error.sentence, error.code)
    return Ending(Fate.TAKEN, "\n".join(task.warnings), facts=_facts(task))


def _facts(task: Task) -> dict[str, object]:
    return {**vars(task.train), "class_names": task.class_names, "gpu_ids": task.gpu_ids}


LAUGHS = b"a: &a [1,1,1,1,1,1,1,1,1]\n" + b"".join(
    b"%c: &%c [%s]\n" % (98 + n, 98 + n, b",".join([b"*%c" % (97 + n)] * 9)) for n in range(9)
)
BOTH = ("helmet", "vest")

FILES: tuple[Case, ...] = (
    refused("an empty file", file(b""), "must hold keys with values"),
    refused("a list", file(b"- a\n- b"), "must hold keys with values"),
    refused("not YAML", file(b"a: [1"), "is not valid YAML"),
    refused("not UTF-8", file(b"a: \xff"), "is not valid YAML"),
    refused("a YAML tag that runs code", file(b"!!python/object/apply:os.getcwd []")),
    refused("a YAML bomb of aliases", file(LAUGHS), "config.yaml", "values"),
    refused("a list that holds itself", file(b"class_names: &a [*a]"), "config.yaml", "value"),
    refused("brackets 10,000 deep", file(b"a: " + b"[" * 10_000), "is not valid YAML"),
    taken("a byte order mark", file(b"\xef\xbb\xbfclass_names: [helmet, vest]"), class_names=BOTH),
    taken("CRLF", file(b"class_names: [helmet, vest]\r\nepochs: 3\r\n"), epochs=3),
    taken("a key twice: the last", file(b"class_names: [a]\nepochs: 3\nepochs: 4\n"), epochs=4),
    refused("env.yaml is not YAML", file(b"]", "env.yaml"), "env.yaml is not valid"),
    refused("env.yaml has nothing to run", env(run_training=False), "has nothing to run"),
    refused("a flag that is no flag", env(run_training="maybe"), "run_training is"),
    refused("a section that is a list", env(input=[1]), "the section input of"),
    refused("a path with a zero byte", env(output={"root_dir": "a\0b"}), "root_dir is"),
    refused("a tab in the task id", env(task_id="a\tb"), "task_id is"),
    refused("an odd protocol version", env(protocol_version="new"), "such as 1.1.0"),
    refused("segmentation", settings(object_type=3), "detection only (2)", code=Code.OBJECT_TYPE),
    refused("Label Studio's export", settings(export_format="ls_json:raw"), "ark:raw"),
    refused("images as an LMDB database", settings(export_format="ark:lmdb"), "ark:raw"),
    refused("a GPU by name", settings(gpu_id="first"), "gpu_id"),
    taken("blanks in gpu_id", settings(gpu_id=" 0, 1 "), gpu_ids=(0, 1)),
    taken("an unknown key: a warning", settings(epoch_count=3), "unknown setting epoch_count"),
    taken("a misspelt key: a warning", settings(epocs=3), "did you mean epochs?"),
    taken("everything as text", settings(epochs=" 3 ", lr0="1e-3"), epochs=3, lr0=0.001),
    taken("nothing for a value: the default", settings(epochs="", lr0="None"), lr0=0.01),
    refused("a word for a number", settings(epochs="many"), "epochs is 'many'"),
    refused("NaN", settings(lr0="nan"), "the setting lr0 is 'nan'; it must be"),
    refused("a fraction for a whole number", settings(epochs=2.5), "epochs is 2.5"),
    refused("a list for a number", settings(epochs=[1]), "epochs is [1]"),
    refused("text of a megabyte", settings(epochs="9" * 2**20), "epochs is '999", "..."),
    refused(
        "code_config that leaves the repository",
        settings(code_config="../../etc/passwd"),
        "a file inside the repository",
    ),
    refused("code_config with a zero byte", settings(code_config="a\0"), "code_config"),
    refused("code_config that is missing", settings(code_config="no.yaml"), "no.yaml"),
    refused(
        "weights that are not there",
        settings(pretrained_model_params=["gone.pt"]),
        "offers no usable weights: it lists gone.pt",
        code=Code.MODEL,
    ),
    refused(
        "weights of another kind", settings(pretrained_model_params=["a.onnx"]), code=Code.MODEL
    ),
)
NAMES: tuple[Case, ...] = (
    taken("text with commas", settings(class_names="helmet, vest"), class_names=BOTH),
    taken("blanks around", settings(class_names=[" helmet ", "vest"]), class_names=BOTH),
    taken(
        "any script, a blank, a sign",
        settings(class_names=["安全帽", "красный жилет", "😀"]),
        class_names=("安全帽", "красный жилет", "😀"),
    ),
    taken("numbers", settings(class_names=[1, 2.5]), class_names=("1", "2.5")),
    taken("names that differ by case", settings(class_names=["A", "a"]), class_names=("A", "a")),
    taken("a thousand names", settings(class_names=[f"c{n}" for n in range(1000)])),
    refused("none", settings(class_names=[]), "a list of one or more names"),
    refused("absent", settings(class_names=None), "a list of one or more names"),
    refused("an empty one", settings(class_names=["a", " "]), "none of them empty"),
    refused("one twice", settings(class_names=["a", "b", "a"]), "repeated names (a)"),
    refused("one twice, as number and text", settings(class_names=[1, "1"]), "(1)"),
    taken(
        "words that YAML takes for something else",
        file(b"class_names: [yes, no, null, 007, 1.0, 2024-01-01]"),
        class_names=("yes", "no", "null", "007", "1.0", "2024-01-01"),
    ),
    refused("a mapping", settings(class_names={"a": 1}), "class_names is {'a': 1}"),
)
SIZES: tuple[Case, ...] = (
    taken("`img_size` no multiple of 32", settings(img_size=100), "128 is used", img_size=128),
    taken("`img_size` as 6.4e2", settings(img_size="6.4e2"), img_size=640),
    refused("`img_size` 0", settings(img_size=0), "img_size is 0; it must be"),
    refused("`img_size` negative", settings(img_size=-640), "img_size is -640"),
    refused("`img_size` a million", settings(img_size=10**6), "img_size is 1000000"),
    refused("`img_size` a list", settings(img_size="[640, 480]"), "img_size is '[640"),
    refused("`img_size` beyond every number", settings(img_size="1e999"), "1e999"),
    taken("`batch_size` -1: what fits", settings(batch_size="-1"), batch_size=-1),
    refused("`batch_size` 0", settings(batch_size=0), "batch_size is 0"),
    refused("`batch_size` a billion", settings(batch_size=10**9), "batch_size is 1000"),
    refused("`epochs` 0", settings(epochs=0), "epochs is 0"),
    refused("`workers` -5", settings(workers=-5), "workers is -5"),
)
