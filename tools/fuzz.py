"""Broken input for every parser: whatever the bytes, the outcome is a value or a TaskError.

python -m tools.fuzz --minutes 10 [--only coco voc] [--seed 0]

Sound documents are cut, doubled, mixed and sprinkled with awkward pieces. A failure is any other
exception, memory beyond a bound, or an input that takes longer than ten seconds; its bytes are
kept below runs/fuzz.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import random
import resource
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tools.fuzz_targets import Target, targets
from utils.errors import TaskError

SLOWEST = 10.0
"""Seconds that one small input may take."""
MEMORY = 4 * 2**30
"""Bytes of address space beyond what is there; threads reserve much that they never use."""

COMMON = (
    *(
        b"",
        b"\0",
        b"\n",
        b"\r\n",
        b"\t",
        b" ",
        b",",
        b":",
        b"'",
        b'"',
        b"\\",
        b"\xff",
        b"\xef\xbb\xbf",
    ),
    *(b"\xff\xfe", b"\xc3\x28", b"\xed\xa0\x80", b"-1", b"0", b"1e999", b"nan", b"-inf", b"1e300"),
    *(b"9" * 400, b"9" * 5000, b"0x" + b"f" * 5000, b"None", b"true", b"..", b"/etc/passwd"),
)


def mutate(target: Target, chance: random.Random) -> bytes:
    """A document made from a sound one by one to eight edits, or, now and then, of pieces alone."""
    pieces = COMMON + target.pieces
    if chance.random() < 0.05:
        return b"".join(chance.choice(pieces) for _ in range(chance.randrange(12)))
    content = bytearray(chance.choice(target.seeds))
    for _ in range(chance.randrange(1, 9)):
        start = chance.randrange(len(content) + 1)
        stop = min(len(content), start + chance.choice((0, 1, 2, 4, 16, 64)))
        edit = chance.randrange(5)
        if edit == 0:
            content[start:stop] = chance.choice(pieces)
        elif edit == 1:
            content[start:start] = chance.choice(pieces)
        elif edit == 2:
            content[start:stop] = bytes(chance.randrange(256) for _ in range(stop - start))
        elif edit == 3:
            content[start:start] = content[start:stop] * chance.choice((1, 2, 50))
        elif chance.random() < 0.3:
            del content[start:]
        else:
            del content[start:stop]
    return bytes(content)


def failure_of(target: Target, content: bytes) -> str:
    """'' when parsing gives a value or a TaskError in time, else what happened."""
    started = time.process_time()  # a busy machine is no fault of the parser
    try:
        target.parse(content)
    except TaskError:
        pass
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return f"{type(error).__name__}: {str(error)[:200]!r}"
    taken = time.process_time() - started
    return f"took {taken:.0f} s" if taken > SLOWEST else ""


@contextmanager
def bounded_memory(beyond: int = MEMORY) -> Iterator[None]:
    """Within, more address space than there is plus `beyond` bytes is a MemoryError (Linux)."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + beyond, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def run(
    chosen: Mapping[str, Target], seconds: float, seed: int, kept: Path
) -> dict[str, tuple[int, dict[str, int]]]:
    """Inputs tried and failures by kind for each target, the time shared out evenly."""
    results = {}
    for name, target in chosen.items():
        chance = random.Random(f"{seed} {name}")
        deadline = time.monotonic() + seconds / len(chosen)
        count, failures = 0, dict[str, int]()
        with bounded_memory():
            while time.monotonic() < deadline:
                content = mutate(target, chance)
                count += 1
                failure = failure_of(target, content)
                if failure and failure not in failures:
                    kept.mkdir(parents=True, exist_ok=True)
                    digest = hashlib.sha256(content).hexdigest()[:12]
                    (kept / f"{name.replace(' ', '-')}-{digest}").write_bytes(content)
                if failure:
                    failures[failure] = failures.get(failure, 0) + 1
        results[name] = count, failures
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz for the time asked, print the table; status 1 if anything failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--only", nargs="*", help="parsers by name; default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("runs/fuzz"))
    options = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    try:
        with tempfile.TemporaryDirectory() as folder:
            every = targets(Path(folder))
            chosen = {name: every[name] for name in options.only or every}
            results = run(chosen, 60 * options.minutes, options.seed, options.keep)
    finally:
        logging.disable(logging.NOTSET)
    print("| parser | inputs | failures |\n|---|---|---|")
    for name, (count, failures) in results.items():
        print(f"| {name} | {count} | {sum(failures.values())} |")
    print(
        f"| all | {sum(n for n, _ in results.values())} | "
        f"{sum(sum(f.values()) for _, f in results.values())} |"
    )
    for name, (_, failures) in results.items():
        for failure, times in failures.items():
            print(f"{name}: {failure} ({times} times)")
    return 1 if any(failures for _, failures in results.values()) else 0


if __name__ == "__main__":
    raise SystemExit(main())
