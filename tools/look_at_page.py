"""A page as a browser shows it: a picture of it, what it asks the network for, what goes wrong.

python -m tools.look_at_page report.html report.png --width 375       needs Chromium
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from utils.atomic import replace_file
from utils.errors import Code, TaskError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
LEAST_WINDOW = 600
"""A window cannot be as narrow as a phone; a frame inside it can."""
TALLEST = 12_000
SECONDS = 120
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-default-apps", "--disable-extensions", "--allow-file-access-from-files"),
    *("--enable-logging=stderr", "--log-level=0", "--virtual-time-budget=5000"),
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
FRAME = """\
<!doctype html><meta charset="utf-8"><style>body {{ margin: 0 }} iframe {{ border: 0 }}</style>
<iframe src="{address}" width="{width}" height="{height}"></iframe>
<script>
addEventListener("load", () => {{
  const page = document.querySelector("iframe").contentDocument.documentElement;
  document.title = "needs " + page.scrollWidth + " x " + page.scrollHeight;
}});
</script>
"""
NEEDS = re.compile(r"<title>needs (\d+) x (\d+)</title>")
OWN = "not an origin"
MESSAGE = re.compile(r":CONSOLE[^\]]*\] (.*)")


@dataclass(frozen=True)
class Look:
    """What a browser makes of a page at one width.

    `needs` is the width that its content takes, pixels: more than was given means that the page as
    a whole moves sideways. `height` is that of the whole page. `messages` is what the console says,
    `requests` every address that was asked for over a network.
    """

    needs: int
    height: int
    messages: tuple[str, ...]
    requests: tuple[str, ...]


def find_browser() -> str:
    """The path of Chromium; TaskError(CONFIG) where there is none."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        raise TaskError(Code.CONFIG, f"no browser is here: install one of {', '.join(BROWSERS)}.")
    return found


def look_at(page: Path, *, width: int, picture: Path | None = None, height: int = 0) -> Look:
    """Open the file `page` `width` pixels wide; `picture` (PNG) gets its upper `height` pixels.

    `height` 0 is all of it, up to 12,000. Raises TaskError(CONFIG) where there is no Chromium, and
    TaskError(CONTAINER) where it does not open the page.
    """
    browser = find_browser()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dumped = _run(browser, folder, page, size=(width, 1000), options=["--dump-dom"])
        found = NEEDS.search(dumped.stdout)
        if found is None:
            raise TaskError(
                Code.CONTAINER,
                f"{browser} does not open {page}: {dumped.stderr.strip()[-300:]}",
            )
        needs, whole = int(found[1]), int(found[2])
        requests = _requests(folder / "net.json")
        messages = tuple(dict.fromkeys(MESSAGE.findall(dumped.stderr)))
        if picture is not None:
            shot = folder / "shot.png"
            size = (width, min(height or whole, TALLEST))
            _run(browser, folder, page, size=size, options=[f"--screenshot={shot}"])
            image = cv2.imread(str(shot))
            if image is None:
                raise TaskError(Code.CONTAINER, f"{browser} made no picture of {page}.")
            with replace_file(picture) as temporary:
                temporary.write_bytes(cv2.imencode(".png", image[:, :width])[1].tobytes())
    return Look(needs, whole, messages, requests)


def _run(
    browser: str, folder: Path, page: Path, *, size: tuple[int, int], options: Sequence[str]
) -> subprocess.CompletedProcess[str]:
    """Chromium on a frame of `size` (width, height) that holds the page."""
    width, height = size
    frame = folder / "frame.html"
    address = page.resolve().as_uri()
    frame.write_text(FRAME.format(address=address, width=width, height=height), encoding="utf-8")
    command = [
        *(browser, *QUIET, f"--user-data-dir={folder / 'profile'}"),
        *(f"--log-net-log={folder / 'net.json'}", *options),
        *(f"--window-size={max(width, LEAST_WINDOW)},{height}", frame.as_uri()),
    ]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise TaskError(
            Code.CONTAINER, f"{browser} did not open {page} within {SECONDS} s."
        ) from None


def _requests(log: Path) -> tuple[str, ...]:
    """Addresses of a network in Chromium's own record of its requests."""
    events = json.loads(log.read_text(encoding="utf-8"))["events"]
    asked = (event.get("params", {}) for event in events)
    # The browser's own errands have no initiator.
    addresses = (a.get("url", "") for a in asked if a.get("initiator", OWN) != OWN)
    return tuple(dict.fromkeys(a for a in addresses if a.startswith(("http", "ws"))))


def main(arguments: Sequence[str] | None = None) -> int:
    """Take the picture; status 1 if the page asks a network, complains or is too wide."""
    parser = argparse.ArgumentParser(
        prog="tools.look_at_page",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("page", type=Path, help="an HTML file")
    parser.add_argument("picture", type=Path, help="PNG file to write")
    parser.add_argument("--width", type=int, default=1400, help="of the window, pixels")
    parser.add_argument("--height", type=int, default=0, help="of the picture; 0 for all")
    options = parser.parse_args(arguments)
    try:
        look = look_at(
            options.page, width=options.width, picture=options.picture, height=options.height
        )
    except TaskError as error:
        sys.exit(f"FAILED: {error.sentence}")
    troubles = [f"asks for {address}" for address in look.requests]
    troubles += [f"console: {message}" for message in look.messages]
    if look.needs > options.width:
        troubles.append(f"needs {look.needs} pixels of width")
    print("\n".join(troubles) or f"{options.picture}: no request, no message, fits.")
    return 1 if troubles else 0


if __name__ == "__main__":
    sys.exit(main())
