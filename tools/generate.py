"""Write every generated table and file: settings, flags, return codes, tests' cases, templates.

python -m tools.generate [--check]

A page of docs/ keeps its own text; what stands between `<!-- generated: NAME -->` and
`<!-- end -->` is replaced by the table NAME. Pages in docs/zh get the same tables, each text in
the translation that docs/zh/translations.yaml or the program's own catalogue has for it, or in
English.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import NamedTuple, get_args, get_origin, get_type_hints

import yaml

from api.detector import Detector, Ranked
from api.hub import HubModel
from api.results import Results
from settings import parse
from settings.detect import DetectionSettings, InferSettings, MiningSettings
from settings.rules import FieldSpec, as_text
from settings.train import TrainSettings
from settings.v7_flags import FLAGS, Command, Flag, FlagStatus
from tests.reliability.bad_input import PARTS
from tests.reliability.case import Case, Fate
from tests.reliability.checklist import CHECKLIST
from tools import command_parser
from tools.api_tables import hub_rows, member_rows
from utils.atomic import write_text
from utils.errors import Code, TaskError
from utils.language.catalogue import catalogue

ROOT = Path(__file__).resolve().parent.parent
DOCS, IMAGES, DEFAULTS = ROOT / "docs", ROOT / "docker/img-man", ROOT / "configs/default.yaml"
TRANSLATIONS = DOCS / "zh" / "translations.yaml"
PART = re.compile(r"(<!-- generated: ([^>]+) -->\n).*?(<!-- end -->)", re.DOTALL)

TYPES = {bool: "true or false", int: "whole number", float: "number", str: "text"}
NOTE = "# Written by python -m tools.generate: change the settings, not this file.\n"
RESERVED = {
    "gpu_count": (1, "GPUs of a task, 0 for the CPU"),
    "shm_size": ("16G", "shared memory of the container"),
}
TRAINING_ONLY = {"export_format": ("ark:raw", "how labels are handed over: ark, voc or coco")}
MANIFEST = """\
# Whether the image runs code that a task names (live code), and what it is for: 2 is detection.
enable_livecode: {live}
object_type: 2
"""


API = {
    **{Detector: "detector", Ranked: "ranked", Results: "results", HubModel: "model"},
    TaskError: "error",
}
"""The classes of docs/api.md, and what an object of each is called there."""


class Table(NamedTuple):
    """Heading and rows of a table in Markdown."""

    heading: tuple[str, ...]
    rows: Sequence[Sequence[str]]

    def markdown(self, words: Mapping[str, str]) -> str:
        """Return the table as text, each cell in the translation that `words` has for it."""
        lines = [
            f"| {' | '.join(_cell(translated(cell, words)) for cell in row)} |".replace(
                "|  |", "| |"
            )
            for row in (self.heading, *self.rows)
        ]
        return "\n".join([lines[0], "|" + "---|" * len(self.heading), *lines[1:]])


def translated(text: str, words: Mapping[str, str]) -> str:
    """Return a cell's translation: of the whole, else of what lies before and after a semicolon.

    A key of `words` that begins with ^ is a regular expression, its translation the replacement.
    """
    if text in words:
        return words[text]
    for pattern, replacement in words.items():
        if pattern.startswith("^") and re.search(pattern, text):
            return re.sub(pattern, replacement, text)
    before, semicolon, after = text.rpartition("; ")
    if not semicolon:
        return text
    found = translated(before, words), translated(after, words)
    return text if found == (before, after) else "；".join(found)


def _cell(text: str) -> str:
    """Return a text for a cell; outside of code an angle bracket would be taken as HTML."""
    text = text.replace("|", "\\|")
    return text if "`" in text else text.replace("<", "\\<")


def settings_table(kind: type, without: type | None = None) -> Table:
    """Return name, default, values and help text of every setting that `without` does not have."""
    left_out = {item.name for item in fields(without)} if without else set()
    types = get_type_hints(kind)
    rows = [
        (f"`{name}`", f"`{as_text(item.default)}`", _values(spec, types[name]), spec.help)
        for item in fields(kind)
        if (name := item.name) not in left_out and (spec := item.metadata["spec"])
    ]
    return Table(("setting", "default", "values", "meaning"), rows)


def _values(spec: FieldSpec, type_: type) -> str:
    """Return what a setting may be: its range or choices, else its type, then its unit."""
    listed = get_origin(type_) is tuple
    if spec.choices:
        allowed = ("list of " if listed else "one of ") + ", ".join(spec.choices)
    else:
        type_ = get_args(type_)[0] if listed else type_
        allowed = ", ".join(part for part in (TYPES[type_], spec.allowed) if part)
        allowed = f"list: {allowed}" if listed else allowed
    return f"{allowed}; {spec.unit}" if spec.unit else allowed


def flags_table(command: Command) -> Table:
    """Return the flags of one command of v7.0 and what becomes of each."""
    rows = [
        (" ".join(f"`{name}`" for name in f.names), *_status(f, command)) for f in FLAGS[command]
    ]
    return Table(("flag", "here", "what it does, or why not"), rows)


def _status(flag: Flag, command: Command) -> tuple[str, str]:
    if flag.effect is FlagStatus.IGNORED:
        return "no effect", flag.says
    if flag.effect is FlagStatus.REFUSED:
        return "refused", flag.says
    if flag.effect is FlagStatus.COMMAND:
        in_tasks = command in ("train", "detect")  # whose flags a task may carry
        without = f"; without effect in a task: {flag.in_a_task}" if in_tasks else ""
        return "yes", flag.says + without

    value = "" if flag.takes != "nothing" or flag.gives is True else f": {as_text(flag.gives)}"
    return f"`{flag.setting}{value}`", flag.says


def hyper_parameters_table() -> Table:
    """Return the hyper-parameters of v7.0, each with its default and meaning here."""
    settings = {item.name: item for item in fields(TrainSettings)}
    rows = []
    others = ("anchors", "label_smoothing", *parse.WITHOUT_EFFECT)
    for name in (*parse.read_hyp("scratch-low"), *others):
        if name in settings:
            spec, default = settings[name].metadata["spec"], as_text(settings[name].default)
            unit = f" [{spec.unit}]" if spec.unit else ""
            rows.append((f"`{name}`", default, f"{spec.help}{unit}; {spec.allowed}"))
        elif name in parse.WITHOUT_EFFECT:
            rows.append((f"`{name}`", "-", f"no effect: {parse.WITHOUT_EFFECT[name]}"))
        else:
            assert name in parse.NOT_SUPPORTED, name
            rows.append((f"`{name}`", "0", "not yet; a warning says so unless it is 0"))
    return Table(("name", "default", "what it is"), rows)


def aliases_table() -> Table:
    """Return the other names under which settings are known."""
    rows = [(f"`{name}`", f"`{setting}`") for name, setting in sorted(parse.ALIASES.items())]
    return Table(("name", "setting"), rows)


def return_codes_table() -> Table:
    """Return number, name, words on the screen, meaning and remedy of every return code."""
    texts = yaml.safe_load((DOCS / "return-codes.yaml").read_text(encoding="utf-8"))
    rows = [(str(int(code)), code.name, *texts[code.name]) for code in Code]
    head = ("code", "name", "Error Reason on the screen", "what it means", "what to do")
    return Table(head, rows)


def contract_table() -> Table:
    """Return the protocol's checklist with the tests and the checker's rules of each line."""
    rows = []
    for clause in CHECKLIST:
        links = ", ".join(f"[{Path(file).stem}](../{file})" for file in clause.tests)
        rules = ", ".join(f"`{rule}*`" if rule[-1] == "." else f"`{rule}`" for rule in clause.rules)
        rows.append((str(clause.number), clause.words, links, rules or "-"))
    return Table(("", "line", "tests", "rules of the checker"), rows)


def api_table(kind: type, name: str) -> Table:
    """Return the public members of a class; `name` is what an object of it is called."""
    return Table(("call", "what it does"), member_rows(kind, name))


def bad_input_counts() -> Table:
    """Return how many cases of bad input are taken, skipped and refused."""
    cases = [case for part in PARTS.values() for case in part]
    counts = [(fate.value, str(sum(case.fate is fate for case in cases))) for fate in Fate]
    return Table(("what happens", "cases"), [*counts, ("all", str(len(cases)))])


def bad_input_table(cases: Sequence[Case]) -> Table:
    """Return what becomes of each case of bad input and what is said."""
    rows = []
    for case in cases:
        fate = case.fate.value if case.code is None else f"{case.fate.value}, {int(case.code)}"
        said = [f"“{words}”" for words in case.says]
        said += [f"{name.replace('_', ' ')} {value}" for name, value in case.facts.items()]
        rows.append((case.name, fate, "; ".join(said)))
    return Table(("case", "what happens", "what is said, and figures"), rows)


TABLES: Mapping[str, Callable[[], Table]] = {
    "settings of training": partial(settings_table, TrainSettings),
    "settings of detection": partial(settings_table, DetectionSettings),
    "settings of mining": partial(settings_table, MiningSettings, DetectionSettings),
    "settings of inference": partial(settings_table, InferSettings, DetectionSettings),
    "other names": aliases_table,
    **{f"flags of {command}": partial(flags_table, command) for command in FLAGS},
    "hyper-parameters": hyper_parameters_table,
    "return codes": return_codes_table,
    "contract": contract_table,
    **{f"api of {kind.__name__}": partial(api_table, kind, name) for kind, name in API.items()},
    "api of hubconf": lambda: Table(("name", "what it is"), hub_rows(ROOT / "hubconf.py")),
    "bad input": bad_input_counts,
    **{f"bad input: {title}": partial(bad_input_table, cases) for title, cases in PARTS.items()},
}
"""The tables by the name that stands in a page."""


def page(text: str, words: Mapping[str, str]) -> str:
    """Return a page with its generated parts made anew; KeyError for a table that is not there."""

    def replaced(part: re.Match[str]) -> str:
        return f"{part[1]}\n{TABLES[part[2]]().markdown(words)}\n\n{part[3]}"

    return PART.sub(replaced, text)


def default_yaml(text: str) -> str:
    """Return configs/default.yaml with every setting's line made anew under the comments of `text`.

    A comment or an empty line belongs to the key below it; a new setting takes its place in the
    order of its class.
    """
    lines: list[str] = []
    above: list[str] = []
    section = ""
    comments: dict[tuple[str, str], list[str]] = {}
    for line in text.splitlines():
        key = re.match(r"( *)(\w+):", line)
        if key is None:
            above.append(line)
            continue
        section, name = (section, key[2]) if key[1] else (key[2], "")
        comments[section, name], above = above, []
    for section in [section for section, name in comments if not name]:
        kind = parse.SECTIONS[section]
        lines += [*comments[section, ""], f"{section}:"]
        types = get_type_hints(kind)
        for item in fields(kind):
            spec = item.metadata["spec"]
            allowed = "true or false" if types[item.name] is bool else spec.allowed
            extra = "; ".join(part for part in (spec.unit, allowed) if part)
            setting = f"  {_yaml(item.name, item.default)}"
            lines += comments.get((section, item.name), [])
            lines.append(f"{setting:<27} # {spec.help}" + (f" [{extra}]" if extra else ""))
    return "\n".join([*lines, *above]) + "\n"


def image_templates() -> dict[str, str]:
    """Return the files of docker/img-man: manifests and templates of settings, by relative path.

    A live-code image has the reserved keys alone: a template's key beats the file `code_config`.
    """
    written = {}
    for image, full in (("live-code", False), ("baked", True)):
        written[f"{image}/manifest.yaml"] = MANIFEST.format(live="false" if full else "true")
        for section, kind in parse.SECTIONS.items():
            reserved = RESERVED | (TRAINING_ONLY if section == "training" else {})
            lines = [f"{_yaml(key, value)}  # {text}\n" for key, (value, text) in reserved.items()]
            for item in fields(kind) if full else ():
                spec = item.metadata["spec"]
                extra = "".join(f"; {part}" for part in (spec.unit, spec.allowed) if part)
                lines.append(f"{_yaml(item.name, item.default)}  # {spec.help}{extra}\n")
            written[f"{image}/{section}-template.yaml"] = NOTE + "".join(lines)
    return written


def _yaml(key: str, value: object) -> str:
    plain = {key: list(value) if isinstance(value, tuple) else value}
    return yaml.safe_dump(plain, default_flow_style=True, width=10_000).strip()[1:-1]


def chinese() -> dict[str, str]:
    """Return the Chinese of tables: what the program says itself, and what the documents add."""
    own: dict[str, str] = yaml.safe_load(TRANSLATIONS.read_text(encoding="utf-8"))
    return catalogue("zh").texts | own


def generated() -> dict[Path, str]:
    """Return every file that is generated, in whole or in part, with the content it should have."""
    words = {"zh": chinese()}
    written = {}
    for path in sorted(DOCS.rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        if PART.search(text):
            written[path] = page(text, words.get(path.parent.name, {}))
    written[DEFAULTS] = default_yaml(DEFAULTS.read_text(encoding="utf-8"))
    return written | {IMAGES / name: text for name, text in image_templates().items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write what is not up to date; with --check only name it, and status 1 if anything is."""
    parser = command_parser("tools.generate", __doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 if stale")
    options = parser.parse_args(arguments)
    stale = {
        path: text
        for path, text in generated().items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    }
    for path, text in stale.items():
        print(path.relative_to(ROOT))
        if not options.check:
            write_text(path, text)
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    raise SystemExit(main())
