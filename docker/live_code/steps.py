"""The steps of a live-code task: clone, check out, install what is missing, run start.py."""

from __future__ import annotations

import os
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from .children import Children
from .secret_urls import clean, for_git, git_alias
from .task import CONFIG, CONTAINER, NETWORK, CodeTask, StartError

REQUIREMENTS, START = "extra-requirements.txt", "start.py"


def surroundings(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` with a home that can be written and nothing that waits for an answer."""
    home = environ.get("HOME", "")
    if not (home and os.path.isdir(home) and os.access(home, os.W_OK)):
        home = tempfile.mkdtemp(prefix="home-")
    ssh = environ.get("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")
    own = {"HOME": home, "GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": ssh}
    return {**environ, **own, "PYTHONUNBUFFERED": "1"}


def fetch(task: CodeTask, app: Path, children: Children, environ: Mapping[str, str]) -> None:
    """Clone `git_url` into the empty folder `app` and check out `git_branch`.

    A folder or a bundle file will do as git_url, so that a site without a network can mount one.
    """
    _prepare(app)
    url = task.git_url
    local = "://" not in url and (url.startswith(("/", ".")) or Path(url).exists())
    folder = Path(url.removeprefix("file://"))
    if (local or url.startswith("file://")) and not folder.exists():
        raise StartError(
            CONFIG, f"git_url names {folder}, which does not exist here; is it mounted?"
        )
    variables = dict(environ)
    if clean(url) != url:
        variables |= git_alias(url, environ)
    # Contents of old versions are left out; a folder gives all it has.
    options = ["--no-hardlinks"] if local else ["--filter=blob:none"]
    command = ["git", "clone", "--quiet", "--no-checkout", *options, "--", for_git(clean(url))]
    status, lines = children.run([*command, str(app)], folder=app, environ=variables)
    if status:
        raise StartError(
            CONFIG if local or url.startswith("file://") else NETWORK,
            f"git could not clone {clean(url)} ({_last(lines)}); check git_url, and whether this "
            "machine reaches it.",
        )
    command = ["git", "checkout", "--quiet", task.git_branch, "--"]
    status, lines = children.run(command, folder=app, environ=variables)
    if status:
        raise StartError(
            CONFIG,
            f"{clean(url)} has no branch, tag or commit {task.git_branch!r} ({_last(lines)}); "
            "check git_branch.",
        )


def _prepare(app: Path) -> None:
    try:
        app.mkdir(parents=True, exist_ok=True)
        filled = any(app.iterdir())
    except OSError as error:
        raise StartError(CONTAINER, f"{app} cannot be used ({error.strerror}).") from None
    if filled:
        raise StartError(CONTAINER, f"{app} is not empty, so no code can be cloned into it.")
    if not os.access(app, os.W_OK):
        raise StartError(CONTAINER, f"{app} cannot be written by the user {os.getuid()}.")


def install(
    app: Path, mirror: str, children: Children, environ: Mapping[str, str]
) -> dict[str, str]:
    """Install what `extra-requirements.txt` lists and is not there; gives the variables to run by.

    First without an index: that succeeds when all is there, and reaches nothing.
    """
    variables = dict(environ)
    if not (app / REQUIREMENTS).is_file():
        print(f"no {REQUIREMENTS}: nothing to install", flush=True)
        return variables
    command = [sys.executable, "-m", "pip", "install", "--no-input", "--progress-bar", "off"]
    command += ["--disable-pip-version-check"]
    packages = sysconfig.get_path("purelib")
    if not os.access(packages, os.W_OK) and sys.prefix == sys.base_prefix:
        # A user without a name cannot write where the image keeps its packages.
        variables.setdefault("PYTHONUSERBASE", tempfile.mkdtemp(prefix="packages-"))
        command.append("--user")
    offline = [*command, "--no-index", "-r", REQUIREMENTS]
    status, _ = children.run(offline, folder=app, environ=variables, shown=False)
    if status == 0:
        print(f"everything in {REQUIREMENTS} is there", flush=True)
        return variables
    print(f"installing what {REQUIREMENTS} lists and is missing", flush=True)
    where = variables | _index(mirror)
    status, lines = children.run([*command, "-r", REQUIREMENTS], folder=app, environ=where)
    if status:
        raise StartError(
            NETWORK,
            f"pip could not install what {REQUIREMENTS} lists ({_last(lines)}); check its lines, "
            "and pypi_mirror if this machine needs one.",
        )
    return variables


def _index(mirror: str) -> dict[str, str]:
    """The mirror as pip's variables: a command line could be read by everyone."""
    if not mirror:
        return {}
    variables = {"PIP_INDEX_URL": for_git(mirror)}
    host = urlsplit(mirror).hostname
    if mirror.startswith("http://") and host:
        variables["PIP_TRUSTED_HOST"] = host
    return variables


def run_start(app: Path, children: Children, environ: Mapping[str, str]) -> int:
    """Run `start.py` in `app`; its exit status."""
    if not (app / START).is_file():
        raise StartError(CONFIG, f"The code has no {START} in its top folder; it must have one.")
    command = [sys.executable, START]
    return children.run(command, folder=app, environ=environ, captured=False)[0]


def _last(lines: list[str]) -> str:
    said = [line.strip() for line in lines if line.strip()]
    return said[-1] if said else "it said nothing"
