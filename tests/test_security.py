"""What SECURITY.md promises: no shell, no run text, no pickle, no network, held against the code.

The rules go over the syntax tree of every file; a whole task is run besides, watched from within
the interpreter, and without any network where the machine allows that.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from bench.fault_tasks import can_enter
from tests.conftest import ROOT, TINY_TRAINING
from tools.check_out import check_out
from tools.make_task import write_task
from tools.sources import SourceDataset

PRODUCT = sorted(
    path
    for path in ROOT.rglob("*.py")
    if path.relative_to(ROOT).parts[0] not in {"bench", "tests", "build", "runs"}
    and not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)

MODULES = {
    "reaches the network": {
        *("aiohttp", "asyncio", "ftplib", "http", "httpx", "imaplib", "nntplib", "poplib"),
        *("requests", "smtplib", "socket", "socketserver", "ssl", "telnetlib", "urllib"),
        *("urllib3", "webbrowser", "websocket", "xmlrpc"),
    },
    "builds objects that a file names": {
        *("cPickle", "cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"),
    },
    "runs text or another file": {"code", "codeop", "imp", "runpy"},
    "installs packages": {"ensurepip", "pip"},
    "starts a shell": {"commands", "pty"},
    "starts a process": {"subprocess"},
    "calls a C library": {"ctypes"},
    "unpacks archives": {"tarfile"},
    "reads XML without protection": {"lxml", "xml", "xmltodict"},
}
"""Modules by the first part of their name, and what one could do with them."""

NAMES = {
    r"os\.(system|popen|exec[lv]\w*|spawn\w+|posix_spawnp?|fork|forkpty)": "starts a process",
    r"(builtins\.)?(eval|exec|compile|__import__)": "runs text",
    r"torch\.hub\..+": "reaches the network",
    r"yaml\.(load|load_all|full_load\w*|unsafe_load\w*|(Full|Unsafe)?Loader)": "builds objects",
    r"torch\.jit\.load": "runs what a file holds",
    r"tempfile\.mktemp": "leaves time for another file of that name",
    r".+\.(extractall|unpack_archive)": "unpacks archives",
}
"""Names by pattern, imports resolved, and what is wrong with them."""

ONLY_TEXT = {"urllib.parse"}
"""Parts of those modules that do nothing of the kind."""

WRITES_XML = {"Element", "SubElement", "ElementTree", "ParseError", "indent", "tostring"}

ALLOWED: dict[str, tuple[str, ...]] = {
    # The one file that may fetch something, if a task asks for it.
    "ymir/weight_download.py": ("http", "socket", "urllib", "torch.hub.download_url_to_file"),
    # mallopt of the C library that is loaded anyway.
    "utils/device.py": ("ctypes",),
    # A program that this one has just written, loaded to compare it with the network.
    "exporting/format_torchscript.py": ("torch.jit.load",),
    # start.py itself, and another program's, as lists of words.
    "tools/demo.py": ("subprocess",),
    # Chromium, which takes a picture of a page, as a list of words.
    "tools/screenshot.py": ("subprocess",),
    # mkdocs, which builds the site for developers, as a list of words.
    "tools/build_site.py": ("subprocess",),
    # The safe loader, in C where PyYAML has it, on files of this program.
    "utils/language/catalogue.py": ("yaml.load",),
    # git, pip and a repository's start.py: the starter of an image, as lists of words.
    "docker/live_code/children.py": ("subprocess",),
    # The programs of this project, as their own files run them.
    "ymir_yolov5.py": ("runpy",),
    "mining/mining_cald.py": ("runpy",),
    # Imports of this folder below a name of their own, so that torch.hub shadows nothing.
    "hubconf.py": ("builtins.__import__",),
    # BaseLoader, which makes text of every scalar and nothing else.
    "docker/live_code/task.py": ("yaml.load",),
}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(tree: ast.AST) -> dict[str, str]:
    """Local names of a file to the dotted names that they stand for."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                root = alias.name.split(".")[0]
                names[alias.asname or root] = alias.name if alias.asname else root
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    return names


def dotted(node: ast.AST, names: Mapping[str, str]) -> str:
    """The full name of an expression such as `np.load`, '' for anything but a chain of names."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        owner = dotted(node.value, names)
        return f"{owner}.{node.attr}" if owner else f"?.{node.attr}"
    return ""


def modules_of(node: ast.AST, names: Mapping[str, str]) -> Iterator[str]:
    """Modules that a statement or a call of import_module brings in."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        safe = node.module == "xml.etree.ElementTree" and {a.name for a in node.names} <= WRITES_XML
        yield from [] if safe else [node.module]
    elif (
        isinstance(node, ast.Call)
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and dotted(node.func, names).split(".")[-1] in {"import_module", "optional_package"}
    ):
        yield str(node.args[0].value)


def fixed(call: ast.Call) -> dict[str, object]:
    """The keywords of a call whose values are written out."""
    return {
        str(k.arg): k.value.value if isinstance(k.value, ast.Constant) else k.value
        for k in call.keywords
    }


def wrong_call(call: ast.Call, names: Mapping[str, str]) -> str:
    """What is wrong with the arguments of a call, or ''."""
    name, given = dotted(call.func, names), fixed(call)
    if "shell" in given:
        return "shell= is never needed"
    if name == "torch.load" and given.get("weights_only") is not True:
        return "torch.load without weights_only=True"
    if given.get("allow_pickle", False) is not False:
        return "allow_pickle"
    if name.startswith("subprocess.") and call.args and isinstance(call.args[0], ast.Constant):
        return "a command as one text"
    return ""


def offences(source: str, allowed: tuple[str, ...] = ()) -> list[str]:
    """Line and reason of everything in a source that the rules forbid."""
    tree = ast.parse(source)
    names = imported(tree)
    found = []
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        for module in modules_of(node, names):
            first = module.split(".")[0]
            if first not in allowed and module not in ONLY_TEXT:
                found += [
                    f"{line}: {module} {why}" for why, them in MODULES.items() if first in them
                ]
        name = dotted(node, names) if isinstance(node, ast.Name | ast.Attribute) else ""
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            name = ""  # one of its own, such as the setting `compile`
        if isinstance(node, ast.Call):
            if problem := wrong_call(node, names):
                found.append(f"{line}: {problem}")
            if dotted(node.func, names) == "getattr" and isinstance(node.args[1], ast.Constant):
                name = f"{dotted(node.args[0], names)}.{node.args[1].value}"
        if name and name not in allowed:
            found += [
                f"{line}: {name} {why}" for rule, why in NAMES.items() if re.fullmatch(rule, name)
            ]
    return found


@pytest.mark.parametrize("path", PRODUCT, ids=relative)
def test_nothing_hidden(path: Path) -> None:
    assert offences(path.read_text(encoding="utf-8"), ALLOWED.get(relative(path), ())) == []


def test_every_exception_is_needed() -> None:
    for path, allowed in ALLOWED.items():
        source = (ROOT / path).read_text(encoding="utf-8")
        for one in allowed:
            rest = tuple(other for other in allowed if other != one)
            assert offences(source, rest), f"{path} needs no exception for {one}"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        pytest.param("import os\nos.system('ls')", "os.system", id="system"),
        pytest.param("from os import popen as p\np('ls')", "os.popen", id="renamed"),
        pytest.param("import os as o\no.execvp('a', [])", "os.execvp", id="renamed-module"),
        pytest.param("import os\ngetattr(os, 'system')('ls')", "os.system", id="getattr"),
        pytest.param("import subprocess", "starts a process", id="process"),
        pytest.param("run(['ls'], shell=True)", "shell=", id="shell"),
        pytest.param("x = eval('1')", "eval", id="eval"),
        pytest.param("f = exec", "exec", id="exec-by-another-name"),
        pytest.param("import builtins\nbuiltins.eval('1')", "builtins.eval", id="builtins"),
        pytest.param("import pickle", "pickle", id="pickle"),
        pytest.param("def f():\n  from pickle import loads", "pickle", id="pickle-later"),
        pytest.param("import torch\ntorch.load(p)", "weights_only", id="torch-load"),
        pytest.param(
            "import torch as t\nt.load(p, weights_only=False)", "weights_only", id="false"
        ),
        pytest.param("from torch import load\nload(p, weights_only=x)", "weights_only", id="maybe"),
        pytest.param("import numpy as np\nnp.load(p, allow_pickle=True)", "allow_pickle", id="npy"),
        pytest.param("import yaml\nyaml.load(t, yaml.SafeLoader)", "yaml.load", id="yaml"),
        pytest.param("import urllib.request", "network", id="urllib"),
        pytest.param("from http.client import HTTPConnection", "network", id="http"),
        pytest.param("import importlib\nimportlib.import_module('socket')", "network", id="later"),
        pytest.param("import torch\ntorch.hub.load('a', 'b')", "torch.hub.load", id="hub"),
        pytest.param("from xml.etree.ElementTree import parse", "XML", id="xml"),
        pytest.param("import xml.etree.ElementTree as E", "XML", id="whole-xml"),
        pytest.param("from lxml import etree", "XML", id="lxml"),
        pytest.param("archive.extractall(folder)", "unpacks", id="archive"),
    ],
)
def test_the_rules_find_what_they_forbid(source: str, says: str) -> None:
    found = offences(source)
    assert found
    assert says in " ".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "model.eval()",
        "import re\nre.compile('a')",
        "import torch\ntorch.load(p, weights_only=True)",
        "import yaml\nyaml.safe_load(t)",
        "from defusedxml.ElementTree import fromstring",
        "from xml.etree.ElementTree import Element, tostring",
    ],
)
def test_the_rules_leave_the_rest_alone(source: str) -> None:
    assert offences(source) == []


def test_only_a_training_that_asks_for_it_reaches_the_network() -> None:
    users = [
        relative(path)
        for path in PRODUCT
        if any(
            module.startswith("ymir.weight_download")
            for module in imported(ast.parse(path.read_text("utf-8"))).values()
        )
    ]
    assert sorted(users) == ["tasks/training.py", "train.py"]
    text = (ROOT / "ymir" / "weight_download.py").read_text(encoding="utf-8")
    assert text.count("torch.hub.") == 1


WATCHED = """
import json, socket, sys
log = open(sys.argv[1], "a", buffering=1)
PROCESSES = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "pty.spawn")
NETWORK = ("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo",
           "socket.gethostbyname", "urllib.Request", "http.client.connect")
LOOKING = {"ldconfig", "gcc", "ld", "uname"}
def watch(event, arguments):
    if event == "subprocess.Popen" and str(arguments[0]).split("/")[-1] in LOOKING:
        return
    new = event == "socket.__new__" and arguments[1] != socket.AF_UNIX
    if new or event in PROCESSES or event in NETWORK or event == "pickle.find_class":
        log.write(json.dumps([event, repr(arguments)[:200]]) + "\\n")
        raise PermissionError(f"{event} is forbidden here")
sys.addaudithook(watch)
import start
sys.exit(start.main(["--env", sys.argv[2]]))
"""
"""Runs a task in an interpreter where sockets, processes and pickled names raise and are noted.

Four programs are let through: Python's own `ctypes.util` and `platform` ask them, on behalf of
libraries, where a shared library lies and what the processor is called.
"""


def without_network() -> list[str]:
    """A prefix that runs a command without any network interface, [] where that is not allowed."""
    prefix = ["unshare", "--user", "--map-root-user", "--net"]
    return prefix if can_enter(prefix) else []


def run_watched(env_file: Path, folder: Path, code: str = WATCHED) -> tuple[int, str, list[str]]:
    """Exit status, console text and noted events of a task in a process of its own."""
    log = folder / "events.jsonl"
    log.touch()
    done = subprocess.run(
        [*without_network(), sys.executable, "-c", code, str(log), str(env_file)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    events = [json.loads(line)[0] for line in log.read_text().splitlines()]
    return done.returncode, done.stdout + done.stderr, events


def test_the_watch_sees_a_socket(tmp_path: Path) -> None:
    """Without this, the next tests could pass because nobody looks."""
    tries = WATCHED.replace("import start\n", "socket.socket(socket.AF_INET)\n")
    status, text, events = run_watched(tmp_path / "none", tmp_path, tries)
    assert status != 0
    assert "socket.__new__ is forbidden here" in text
    assert events == ["socket.__new__"]


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [("training",), ("mining", "infer")], ids="+".join)
def test_a_task_opens_no_socket_and_starts_nothing(
    drawn: SourceDataset, weights: Path, tmp_path: Path, kinds: tuple[str, ...]
) -> None:
    task, training = tmp_path / "task", "training" in kinds
    settings = {**(TINY_TRAINING if training else {}), "img_size": "64"}
    handed, form = ([], "voc") if training else ([weights], "ark")
    env_file = write_task(
        drawn, task, kinds=kinds, settings=settings, weights=handed, annotation_format=form
    )
    status, text, events = run_watched(env_file, tmp_path)
    assert events == []
    assert status == 0, text
    assert check_out(task) == []
