"""Take a picture of an HTML page in Chromium and report requests, console messages and width.

python -m tools.screenshot report.html report.png --width 375 --dark
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2

from tools import command_parser
from utils.atomic import replace_file
from utils.errors import Code, TaskError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
MIN_WINDOW = 600  # a window cannot be as narrow as a phone; a frame inside it can
MAX_HEIGHT = 12_000
SECONDS = 120
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-default-apps", "--disable-extensions", "--allow-file-access-from-files"),
    *("--enable-logging=stderr", "--log-level=0", "--virtual-time-budget=5000"),
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
DARK = ("--blink-settings=preferredColorScheme=0",)
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
MESSAGE = re.compile(r":CONSOLE[^\]]*\] (.*)")


class PageCheck(NamedTuple):
    """A page at one width: pixels that its content takes, console messages, network requests."""

    width: int
    height: int
    messages: tuple[str, ...]
    requests: tuple[str, ...]


def find_browser() -> str:
    """Return the path of Chromium; TaskError(CONFIG) where there is none."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        raise TaskError(Code.CONFIG, f"no browser is here: install one of {', '.join(BROWSERS)}.")
    return found


def screenshot(
    page: Path, picture: Path, *, width: int, height: int = 0, dark: bool = False
) -> PageCheck:
    """Open the file `page` `width` pixels wide; `picture` (PNG) gets its upper `height` pixels.

    `height` 0 is all of it, up to 12,000; `dark` is the system's dark mode. Raises
    TaskError(CONFIG) where there is no Chromium, TaskError(CONTAINER) where it does not open the
    page.
    """
    browser = find_browser()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def run(window_height: int, option: str) -> subprocess.CompletedProcess[str]:
            """Run Chromium on a frame of the given height that holds the page."""
            address, frame = page.resolve().as_uri(), folder / "frame.html"
            text = FRAME.format(address=address, width=width, height=window_height)
            frame.write_text(text, encoding="utf-8")
            command = [
                browser,
                *OPTIONS,
                *(DARK if dark else ()),
                f"--user-data-dir={folder / 'profile'}",
                option,
            ]
            command += [f"--window-size={max(width, MIN_WINDOW)},{window_height}"]
            command += [f"--log-net-log={folder / 'net.json'}", frame.as_uri()]
            try:
                return subprocess.run(
                    command, capture_output=True, text=True, errors="replace", timeout=SECONDS
                )
            except subprocess.TimeoutExpired:
                sentence = f"{browser} did not open {page} within {SECONDS} s."
                raise TaskError(Code.CONTAINER, sentence) from None

        dumped = run(1000, "--dump-dom")
        found = NEEDS.search(dumped.stdout)
        if found is None:
            reason = dumped.stderr.strip()[-300:]
            raise TaskError(Code.CONTAINER, f"{browser} does not open {page}: {reason}")
        requests = _requests(folder / "net.json")
        messages = tuple(dict.fromkeys(MESSAGE.findall(dumped.stderr)))
        shot = folder / "shot.png"
        run(min(height or int(found[2]), MAX_HEIGHT), f"--screenshot={shot}")
        image = cv2.imread(str(shot))
        if image is None:
            raise TaskError(Code.CONTAINER, f"{browser} made no picture of {page}.")
        with replace_file(picture) as temporary:
            temporary.write_bytes(cv2.imencode(".png", image[:, :width])[1].tobytes())
    return PageCheck(int(found[1]), int(found[2]), messages, requests)


def _requests(log: Path) -> tuple[str, ...]:
    """Return the addresses of a network in Chromium's own record of its requests."""
    events = json.loads(log.read_text(encoding="utf-8"))["events"]
    # The browser's own requests have no initiator.
    pages = (e.get("params", {}) for e in events)
    asked = (p.get("url", "") for p in pages if p.get("initiator", "not an origin")[:3] != "not")
    return tuple(dict.fromkeys(a for a in asked if a.startswith(("http", "ws"))))


def main(arguments: Sequence[str] | None = None) -> int:
    """Take the picture; status 1 if the page asks a network, complains or is too wide."""
    parser = command_parser("tools.screenshot", __doc__)
    parser.add_argument("page", type=Path, help="an HTML file")
    parser.add_argument("picture", type=Path, help="PNG file to write")
    parser.add_argument("--width", type=int, default=1400, help="of the window, pixels")
    parser.add_argument("--height", type=int, default=0, help="of the picture; 0 for all")
    parser.add_argument("--dark", action="store_true", help="as in the system's dark mode")
    options = parser.parse_args(arguments)
    try:
        page = screenshot(**vars(options))
    except TaskError as error:
        sys.exit(f"FAILED: {error.sentence}")
    troubles = [f"asks for {address}" for address in page.requests]
    troubles += [f"console: {message}" for message in page.messages]
    if page.width > options.width:
        troubles.append(f"needs {page.width} pixels of width")
    print("\n".join(troubles) or f"{options.picture}: no request, no message, fits.")
    return 1 if troubles else 0


if __name__ == "__main__":
    sys.exit(main())
