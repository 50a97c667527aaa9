"""The starter of the images, run as a program against repositories in local folders."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.killing_example import wait_for
from tests.task_results import record

SECRET = "s3cr3t-t0ken"
START = "import os\nprint('started in', os.getcwd())\nopen('ran', 'w').close()\n"


class Site:
    """A repository and a task that names it."""

    def __init__(self, root: Path) -> None:
        self.root, self.repository, self.app = root, root / "my code", root / "app"
        for folder in ("in", "out", "my code"):
            (root / folder).mkdir()
        self.monitor = root / "out" / "monitor.txt"
        env = {"task_id": "t1", "run_training": True, "input": {"root_dir": str(root / "in")}}
        env["output"] = {"root_dir": str(root / "out"), "monitor_file": str(self.monitor)}
        (root / "in" / "env.yaml").write_text(yaml.safe_dump(env))
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit({"start.py": START})
        self.configure()

    def git(self, *arguments: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *identity, *arguments], cwd=self.repository, check=True)

    def commit(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            (self.repository / name).write_text(text)
        self.git("add", ".")
        self.git("commit", "--quiet", "--message=x")

    def configure(self, **changes: str) -> None:
        config = {"git_url": str(self.repository), "git_branch": "main", **changes}
        (self.root / "in" / "config.yaml").write_text(yaml.safe_dump(config))

    def start(self, *more: str, **environ: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "live_code", "--env", str(self.root / "in" / "env.yaml")]
        return subprocess.Popen(
            [*command, "--app", str(self.app), *more],
            cwd=ROOT / "docker",
            env={**os.environ, "PIP_NO_INDEX": "1", **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *more: str, **environ: str) -> tuple[int, str]:
        process = self.start(*more, **environ)
        output, _ = process.communicate(timeout=120)
        return process.returncode, output

    def succeed(self, *more: str, **environ: str) -> str:
        status, output = self.run(*more, **environ)
        assert status == 0, output
        return output

    def fail(self, code: str, status: int = 1) -> str:
        """Run it to a failure with this code; return the output."""
        ended, output = self.run()
        assert (ended, record(self.root)[3:5]) == (status, ["4", code]), output
        return output


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_folder_with_a_blank_is_cloned_and_its_start_run(site: Site) -> None:
    output = site.succeed()
    assert f"started in {site.app}" in output
    assert (site.app / "ran").is_file()
    columns = record(site.root)
    assert (columns[0], columns[3:5]) == ("t1", ["2", "0"])


def test_a_tag_and_a_commit_are_checked_out_as_well(site: Site) -> None:
    site.git("tag", "v1")
    site.commit({"start.py": "raise SystemExit(9)\n"})
    site.configure(git_branch="v1", git_url=f"file://{site.repository}")
    site.succeed()


def test_a_branch_that_looks_like_a_number_keeps_its_name(site: Site) -> None:
    site.git("branch", "1.10")
    text = f"git_url: {site.repository}\ngit_branch: 1.10\npypi_mirror: null\n"
    (site.root / "in" / "config.yaml").write_text(text)
    assert "1.10" in site.succeed()


@pytest.mark.parametrize("text", ["[", "- a", "git_url: &a [*a"])
def test_a_config_that_is_no_mapping_is_refused(site: Site, text: str) -> None:
    (site.root / "in" / "config.yaml").write_text(text)
    site.fail("300001")


FAILURES = [
    pytest.param({"git_url": "/nowhere/at all"}, "300001", "does not exist", id="no folder"),
    pytest.param({"git_url": "http://127.0.0.1:9/x y"}, "300301", "not clone", id="no answer"),
    pytest.param({"git_branch": "absent"}, "300001", "no branch, tag or commit 'absent'", id="ref"),
    pytest.param({"git_branch": ""}, "300001", "git_branch in", id="no branch given"),
    pytest.param({"git_url": "--upload-pack=x"}, "300001", "git_url in", id="an option as url"),
    pytest.param({"git_branch": "--force"}, "300001", "git_branch in", id="an option as branch"),
]


@pytest.mark.parametrize(("change", "code", "words"), FAILURES)
def test_a_step_that_fails_says_why(
    site: Site, change: dict[str, str], code: str, words: str
) -> None:
    site.configure(**change)
    last = site.fail(code).splitlines()[-1]
    assert last.startswith(f"FAILED ({code})")
    assert words in last
    assert words in site.monitor.read_text()


def test_requirements_that_cannot_be_had(site: Site) -> None:
    site.commit({"extra-requirements.txt": "no-such-package-anywhere>=1\n"})
    assert "no-such-package-anywhere" in site.fail("300301").splitlines()[-1]
    assert not (site.app / "ran").exists()


def test_nothing_is_installed_when_all_is_there(site: Site) -> None:
    site.commit({"extra-requirements.txt": "PyYAML>=5\n"})
    output = site.succeed(PIP_NO_INDEX="0", PIP_INDEX_URL="http://127.0.0.1:9/")
    assert "everything in extra-requirements.txt is there" in output


def test_code_without_start_is_refused(site: Site) -> None:
    site.git("mv", "start.py", "begin.py")
    site.commit({})
    site.fail("300001")


def test_the_status_of_start_is_passed_on_with_a_reason(site: Site) -> None:
    site.commit({"start.py": "raise SystemExit(7)\n"})
    site.fail("160004", status=7)


def test_a_reason_that_start_gave_stays(site: Site) -> None:
    reason = "t1\t1700000000.5\t0.3\t4\t300002\tno images"
    text = f"open({str(site.monitor)!r}, 'w').write({reason!r})\nraise SystemExit(1)\n"
    site.commit({"start.py": text})
    site.fail("300002")
    assert record(site.root) == reason.split("\t")


def test_credentials_never_reach_the_log(site: Site) -> None:
    for url in (f"http://me:{SECRET}@127.0.0.1:9/x", f"http://127.0.0.1:9/x?token={SECRET}"):
        site.configure(git_url=url)
        status, output = site.run()
        assert status == 1
        assert SECRET not in output + site.monitor.read_text()
        assert "127.0.0.1:9/x" in output


def test_a_full_folder_is_not_touched(site: Site) -> None:
    site.app.mkdir()
    (site.app / "mine").write_text("x")
    site.fail("160004")
    assert [path.name for path in site.app.iterdir()] == ["mine"]


def test_baked_code_is_run_as_it_is(site: Site) -> None:
    site.app.mkdir()
    (site.app / "start.py").write_text(START)
    site.configure(git_url="", git_branch="")
    site.succeed("--baked")
    assert (site.app / "ran").is_file()


def test_sigterm_reaches_start(site: Site) -> None:
    text = (
        "import signal, sys, time\n"
        "def end(*_):\n    print('told to end', flush=True)\n    sys.exit(5)\n"
        "signal.signal(signal.SIGTERM, end)\nopen('ran', 'w').close()\ntime.sleep(60)\n"
    )
    site.commit({"start.py": text})
    process = site.start()
    assert wait_for((site.app / "ran").exists, 60)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert "told to end" in output
    assert process.returncode == 5
    assert record(site.root)[3] == "4"
