"""List the texts for users that the Chinese catalogue lacks, and the entries that nothing says.

python -m tools.texts

A text for users is a string in the code with two words or more: an error sentence or a part of
one, a log line, a word of a page or a figure. Docstrings, help of command lines (their own
language), names and what only a programmer sees are none.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import yaml

from tools import command_parser
from utils.language.catalogue import CHINESE, FOLDER, Pattern, key_of_template, read_texts

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    *("api", "cli", "data", "evaluation", "exporting", "inference", "mining", "models", "ops"),
    *("reporting", "settings", "tasks", "training", "utils", "ymir"),
)
PROGRAMS = ("start", "train", "val", "detect", "mine", "export", "evolve", "tools/demo")
NAMES = (
    *("models/safe_load/allowlist.py", "exporting/onnx_nms.py", "cli/parsers.py"),
    "reporting/charts.py",
)
"""Names of classes, ONNX's own language, help, style sheets."""
TEMPLATES = ROOT / "reporting" / "templates"
SYSTEM = "system.yaml"
"""What the operating system says, of which the code has no text."""
CALLS = re.compile(
    r"(.*\.)?(debug|add_argument|add|add_argument_group|error|cast|compile|sub|match|fullmatch|"
    r"AssertionError|progress_bar|_setting|_switch|_command|startswith|removeprefix|Markup)"
)
"""Calls whose arguments are no texts for users; help of v7.0's flags is in docs/zh."""
LINES = re.compile(r"(log|LOG|self\._log)\.(info|warning|error|exception|critical)|texts\.text")
"""Calls whose first argument is a line for users, even of a single word."""
NAMED = re.compile(r"\{[a-z_]+\}")
NOT_FOR_USERS = frozenset({
    "mosaic mosaic9 mixup close_mosaic", "mosaic9 mixup close_mosaic", "mosaic mosaic9 mixup",
    "cls cls_pw label_smoothing", "onnx_nms onnx_half onnx_simplify",
    "DejaVu Sans", "outside right upper", "upper left",
    "Image Name", "value or nothing", "# Best of {1} trials: number {2}, fitness {3}",
    "ymir-yolov5 training", "ymir-yolov5 {1}{2}", "{1} {2}", "%(asctime)s %(message)s",
    "gpu memory", "host memory", "shared memory", "no gpu", "unable to write to file </torch_",
    "CUDA error: out of memory in host", "CUDA error: out of memory", "no kernel image",
    "killed by signal: Bus error", "driver version is insufficient", "no CUDA-capable device",
    "driver on your system is too", "Found no NVIDIA driver", "No CUDA GPUs are available",
    "DataLoader worker (pid", "could not create a primitive",
})  # fmt: skip
"""Names of settings, heads of files, keys, and what torch says."""
WORD, CAPITALS = re.compile(r"\ba\b|[A-Za-z][a-z]+"), re.compile(r"[A-Za-z]{2,}")


class Text(NamedTuple):
    """A string in the code, as a key of a catalogue, where it stands, whether it is for users."""

    key: str
    place: str
    wanted: bool


def texts(root: Path = ROOT) -> list[Text]:
    """Return every string with a word in the code below `root`, in its order."""
    files = [path for name in PACKAGES for path in sorted((root / name).rglob("*.py"))]
    files += [root / f"{name}.py" for name in PROGRAMS]
    found = []
    for path in files:
        name = path.relative_to(root).as_posix()
        if name not in NAMES:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found += [
                Text(key, f"{name}:{line}", wanted and key not in NOT_FOR_USERS)
                for key, line, wanted in _texts_in(tree)
            ]
    return found


def page_texts(folder: Path = TEMPLATES) -> list[Text]:
    """Return every text that the templates of pages mark for translation."""
    found = []
    for path in _templates(folder):
        for line, _, message in _messages(path.read_text("utf-8")):
            several = message[1] if isinstance(message, tuple) else None  # of ngettext
            key = several or (message[0] if isinstance(message, tuple) else message)
            if key:
                found.append(Text(key, f"{path.name}:{line}", wanted=True))
    return found


def unmarked(folder: Path = TEMPLATES) -> list[Text]:
    """Return the words of templates that nothing marks for translation."""
    found = []
    for path in _templates(folder):
        source = path.read_text("utf-8")
        messages = [message for _, _, message in _messages(source)]
        marked = {part for m in messages for part in (m if isinstance(m, tuple) else (m,))}
        within, shown = False, ""  # a block {% trans %}; what stands outside of blocks
        for line, kind, value in _jinja().lex(source):
            within = value == "trans" or (within and value != "endtrans")
            if kind == "data" and not within:
                shown += value
            known = kind != "string" or value[1:-1] in marked or '="' in value
            if not known and is_text(value):
                found.append(Text(value, f"{path.name}:{line}", wanted=True))
        bare = re.sub(r"<[^>]*>|&\w+;", " ", shown)
        found += [Text(word, path.name, wanted=True) for word in CAPITALS.findall(bare)]
    return found


def _templates(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.html"))


def _messages(source: str) -> list[tuple[int, str, Any]]:
    """Return line, function and text (or texts) of all that a template marks."""
    return list(_jinja().extract_translations(source))  # type: ignore[attr-defined]


def _jinja() -> jinja2.Environment:
    return jinja2.Environment(extensions=["jinja2.ext.i18n", "jinja2.ext.do"])


def _texts_in(node: ast.AST) -> Iterator[tuple[str, int, bool]]:
    """Yield key, line and whether it is wanted, of the strings below a node."""
    template = _template(node)
    if template is not None:
        assert isinstance(node, ast.expr)
        key = _numbered(template)
        if CAPITALS.search(key):
            yield key, node.lineno, is_text(template)
        for value in _values(node):
            yield from _texts_in(value)
        return
    if isinstance(node, ast.Call):
        function = ast.unparse(node.func)
        if LINES.fullmatch(function):
            line = _template(node.args[0]) if node.args else None
            if line is not None and CAPITALS.search(_numbered(line)):
                yield _numbered(line), node.lineno, True
        elif CALLS.fullmatch(function):
            return
    for child in ast.iter_child_nodes(node):
        is_docstring = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
        if not is_docstring:
            yield from _texts_in(child)


def _template(node: ast.AST) -> str | None:
    """Return a string with \0 for each value put into it; None for another expression."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(v.value) if isinstance(v, ast.Constant) else "\0" for v in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        parts = _template(node.left), _template(node.right)
        return None if parts == (None, None) else "".join(p or "\0" for p in parts)
    return None


def _values(node: ast.AST) -> list[ast.AST]:
    """Return the expressions that a template's values come from."""
    if isinstance(node, ast.JoinedStr):
        return [part.value for part in node.values if isinstance(part, ast.FormattedValue)]
    if isinstance(node, ast.BinOp):
        sides = (node.left, node.right)
        return [v for side in sides for v in ([side] if _template(side) is None else _values(side))]
    return []


def _numbered(template: str) -> str:
    """Return a template as a key: each \0, % format and {name} is a slot."""
    return key_of_template(NAMED.sub("%s", template).replace("\0", "%s")).strip()


def is_text(template: str) -> bool:
    """Return whether a string has two words or more."""
    return " " in template.strip() and len(WORD.findall(template)) >= 2


def known_keys() -> list[str]:
    """Return the keys of the Chinese catalogue, less those that the operating system says."""
    files = [path for path in (FOLDER / CHINESE).glob("*.yaml") if path.name != SYSTEM]
    return [key for path in files for key in read_texts(path)]


def missing(known: Sequence[str], found: Sequence[Text]) -> list[Text]:
    """Return the texts for users that no key of a catalogue is for."""
    keys = set(known)
    return [text for text in found if text.wanted and text.key not in keys]


def stale(known: Sequence[str], found: Sequence[Text]) -> list[str]:
    """Return the keys that nothing in the code says, alone or within a longer text."""
    said = {text.key for text in found}
    long = {key for key in said if len(CAPITALS.sub("", key)) + 5 < len(key)}
    patterns = [Pattern.of(key, "") for key in long if "{1}" in key]
    parts = tuple(key for key in long if "{1}" not in key)
    return [
        key
        for key in known
        if key not in said
        and not key.startswith(parts)
        and not any(pattern.values(key) for pattern in patterns)
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what is missing as lines of a catalogue, and stale keys; status 1 if there is any."""
    command_parser("tools.texts", __doc__).parse_args(arguments)
    known = known_keys()
    found = [*texts(), *page_texts()]
    lacking, unsaid = missing(known, found), stale(known, found)
    for text in lacking:
        quoted = yaml.safe_dump(text.key, width=10_000).removesuffix("...\n").strip()
        print(f"# {text.place}\n{quoted}:")
    for key in unsaid:
        print(f"nothing says: {key}")
    bare = unmarked()
    for text in bare:
        print(f"{text.place}: not marked by _ or trans: {text.key}")
    return 1 if lacking or unsaid or bare else 0


if __name__ == "__main__":
    raise SystemExit(main())
