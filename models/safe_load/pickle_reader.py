"""Reader of pickles as data: the instructions build plain values, and nothing can be called.

Unpickling an untrusted file runs its code. Here the instructions are decoded (`pickletools` never
executes them) and followed on a stack of our own. A name in the file is looked up in tables, and an
object becomes a `StandIn`, or an `Inert` one. Memory stays in proportion to the file.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

MAX_INSTRUCTIONS = 2_000_000
"""A stripped yolov5n has 36 thousand, a yolov5x6 with its optimizer ten times that."""
MAX_VALUES = 2_000_000
"""Values that a structure may unfold to when shared parts are counted each time."""
MAX_DEPTH = 100
"""Values within values; a real file has about twenty-five levels."""
KEYS = (str, int, float, bytes, type(None))
"""What a mapping or a set may be keyed by: hashing nested tuples can take for ever."""
MAX_KEY_PARTS = 16
"""Parts of a key that is a flat tuple."""


class Refused(Exception):
    """Raised where a file is not read any further; the text completes 'the file ...'.

    `remedy` says what to do instead, '' for the general advice.
    """

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.remedy = remedy


@dataclass(frozen=True, eq=False)
class Name:
    """A dotted name that a file may use, and the function that stands for it."""

    path: str
    make: Callable[..., object]


class StandIn:
    """Placeholder of an object: arguments of its constructor, and what would be set on it."""

    def __init__(self, name: str, arguments: tuple[object, ...] = ()) -> None:
        self.name = name
        self.arguments = arguments
        self.state: object = None

    def attribute(self, name: str) -> object:
        """Return an attribute of the pickled object, or None."""
        return self.state.get(name) if isinstance(self.state, Mapping) else None


class Inert(StandIn):
    """Placeholder of an object that nobody reads: its arguments, items and state are dropped."""

    def __init__(self, name: str, *_: object) -> None:
        super().__init__(name)


def read_pickle(
    pickled: bytes,
    names: Mapping[str, Name],
    persistent: Callable[[object], object],
    unknown: Callable[[str], Name],
) -> object:
    """Return the value of a pickle.

    `names` are the dotted names that mean something, `persistent` returns what a persistent id
    stands for, `unknown` makes an inert name of any other one, or refuses it. Raises `Refused` with
    a reason, and ValueError, TypeError, KeyError, IndexError or OverflowError for what is no whole
    pickle.
    """
    machine = _Machine(names, persistent, unknown)
    for count, (opcode, argument, _) in enumerate(pickletools.genops(pickled)):
        if count >= MAX_INSTRUCTIONS:
            raise Refused(f"has more than {MAX_INSTRUCTIONS} instructions for its structure")
        if opcode.name == "STOP":
            break
        machine.follow(opcode.name, argument)
    value = machine.stack.pop()
    _check_bounded(value)
    return value


@dataclass
class _Machine:
    """Pickle machine: stack, marks and memo, and one method per kind of instruction."""

    names: Mapping[str, Name]
    persistent: Callable[[object], object]
    unknown: Callable[[str], Name]
    stack: list[object] = field(default_factory=list)
    marks: list[list[object]] = field(default_factory=list)
    memo: dict[int, object] = field(default_factory=dict)
    given: int = 0

    def follow(self, instruction: str, argument: object) -> None:
        if instruction in _CONSTANTS:
            self.stack.append(argument)
        elif instruction in _FRESH:
            self.stack.append(_FRESH[instruction]())
        elif instruction in _METHODS:
            _METHODS[instruction](self, argument)
        elif instruction == "INST":
            self._known(_dotted(str(argument)))
            raise Refused("uses the instruction INST, which torch.save does not write")
        elif instruction not in _IDLE:
            raise Refused(f"uses the instruction {instruction}, which torch.save does not write")

    def mark(self, _: object) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def put(self, position: object) -> None:
        assert isinstance(position, int)
        self.memo[position] = self.stack[-1]

    def memoize(self, _: object) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def get(self, position: object) -> None:
        assert isinstance(position, int)
        self.stack.append(self.memo[position])

    def name(self, path: object) -> None:
        self.stack.append(self._known(_dotted(str(path))))

    def stacked_name(self, _: object) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(self._known(_dotted(f"{module} {name}")))

    def call(self, _: object) -> None:
        """Call or construct a known name: its stand-in function builds the value."""
        arguments, name = self.stack.pop(), self.stack.pop()
        if isinstance(name, Inert) and isinstance(arguments, tuple):
            self.stack.append(Inert(name.name))
            return
        if not isinstance(name, Name) or not isinstance(arguments, tuple):
            raise Refused("calls something that is not a name")
        # A long argument that is shared must not be copied by every call.
        self.given += sum(len(a) for a in arguments if isinstance(a, (str, list, tuple, dict)))
        if self.given > MAX_VALUES:
            raise Refused(f"unfolds to more than {MAX_VALUES} values")
        self.stack.append(name.make(*arguments))

    def call_with_keywords(self, _: object) -> None:
        """Construct a known name without its keyword arguments."""
        self.stack.pop()
        self.call(None)

    def state(self, _: object) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Inert):
            return
        if isinstance(target, StandIn):
            # Objects with slots have a pair (state, slots).
            pair = isinstance(state, tuple) and len(state) == 2 and isinstance(state[0], dict)
            target.state = state[0] if pair and isinstance(state, tuple) else state
        elif not isinstance(target, dict):
            # An ordered mapping may carry attributes, which are ignored.
            raise Refused("sets attributes of something that has none")

    def persistent_id(self, _: object) -> None:
        self.stack.append(self.persistent(self.stack.pop()))

    def append(self, _: object) -> None:
        self._extend([self.stack.pop()])

    def append_marked(self, _: object) -> None:
        self._extend(self._marked())

    def set_item(self, _: object) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._update([key, value])

    def set_marked(self, _: object) -> None:
        self._update(self._marked())

    def add_marked(self, _: object) -> None:
        members, target = self._marked(), self.stack[-1]
        if isinstance(target, Inert):
            return
        if not isinstance(target, set):
            raise Refused("adds members to something that is not a set")
        target.update(_hashable(member) for member in members)

    def frozen_set(self, _: object) -> None:
        self.stack.append({_hashable(member) for member in self._marked()})

    def tuple_marked(self, _: object) -> None:
        values = self._marked()
        self.stack.append(tuple(values))

    def tuple_of(self, count: int) -> None:
        if len(self.stack) < count:
            raise IndexError("the stack is empty")
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def _known(self, path: str) -> Name:
        return self.names.get(path) or self.unknown(path)

    def _marked(self) -> list[object]:
        values, self.stack = self.stack, self.marks.pop()
        return values

    def _extend(self, values: list[object]) -> None:
        target = self.stack[-1]
        if isinstance(target, Inert):
            return
        if not isinstance(target, list):
            raise Refused("appends to something that is not a list")
        target.extend(values)

    def _update(self, pairs: list[object]) -> None:
        target = self.stack[-1]
        if isinstance(target, Inert):
            return
        if not isinstance(target, dict):
            raise Refused("sets items of something that is not a mapping")
        for key, value in zip(pairs[0::2], pairs[1::2], strict=True):
            target[_hashable(key)] = value


_IDLE = {"PROTO", "FRAME"}
_CONSTANTS = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINBYTES", "SHORT_BINBYTES"),
    *("BINUNICODE", "SHORT_BINUNICODE", "SHORT_BINSTRING", "BINSTRING", "BYTEARRAY8"),
}
_FRESH: Mapping[str, Callable[[], object]] = {
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": set,
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
}
_METHODS: Mapping[str, Callable[[_Machine, object], None]] = {
    "MARK": _Machine.mark,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.memoize,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.stacked_name,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "NEWOBJ_EX": _Machine.call_with_keywords,
    "FROZENSET": _Machine.frozen_set,
    "BUILD": _Machine.state,
    "BINPERSID": _Machine.persistent_id,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.append_marked,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_marked,
    "ADDITEMS": _Machine.add_marked,
    "TUPLE": _Machine.tuple_marked,
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
}


def _dotted(path: str) -> str:
    """Turn 'module name' of a file into a dotted name, with Python 3's name of the built-ins."""
    module, _, name = path.partition(" ")
    return f"{'builtins' if module == '__builtin__' else module}.{name}"


def _hashable(key: object) -> object:
    short = isinstance(key, tuple) and len(key) <= MAX_KEY_PARTS and all(map(_is_plain, key))
    if not (short or _is_plain(key) or isinstance(key, (StandIn, Name))):
        raise Refused(f"uses a {type(key).__name__} as the key of a mapping")
    return key


def _is_plain(key: object) -> bool:
    return isinstance(key, KEYS)


def _check_bounded(value: object) -> None:
    """Refuse what contains itself, is nested very deep, or unfolds to far more than was read."""
    waiting: list[tuple[object, int]] = [(value, 0)]
    seen = 0
    while waiting:
        current, depth = waiting.pop()
        seen += 1
        if depth > MAX_DEPTH:
            raise Refused(f"contains itself, or values nested more than {MAX_DEPTH} deep")
        if seen > MAX_VALUES:
            raise Refused(f"unfolds to more than {MAX_VALUES} values")
        if isinstance(current, StandIn):
            waiting += [(current.arguments, depth + 1), (current.state, depth + 1)]
        elif isinstance(current, dict):
            waiting += [(item, depth + 1) for item in current.values()]
        elif isinstance(current, (list, tuple)):
            waiting += [(item, depth + 1) for item in current]
