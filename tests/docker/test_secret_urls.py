"""Secrets in addresses: kept from logs and command lines, and still used by git."""

from __future__ import annotations

import os
import subprocess

import pytest

from docker.live_code.secret_urls import Redactor, clean, git_alias

CASES = [
    pytest.param("https://u:pa55word@h/x", "https://h/x", id="user and password"),
    pytest.param("https://t0ken@h/x y", "https://h/x y", id="token and blank"),
    pytest.param("https://h/x?t=12345", "https://h/x", id="query"),
    pytest.param("git@h:x/y.git", "git@h:x/y.git", id="scp form"),
    pytest.param("ssh://git@h/x", "ssh://h/x", id="ssh"),
    pytest.param("/mnt/my code", "/mnt/my code", id="folder"),
]


@pytest.mark.parametrize(("url", "shown"), CASES)
def test_what_may_be_shown(url: str, shown: str) -> None:
    assert clean(url) == shown
    assert Redactor([url])(f"fatal: {url} is bad") == f"fatal: {shown} is bad"


def test_a_password_alone_and_other_addresses_are_hidden_too() -> None:
    redact = Redactor(["https://u:pa%2055@h/x"])
    assert redact("pa 55 and pa%2055, http://a:b@c/") == "*** and ***, http://***@c/"


def test_git_uses_the_secret_that_the_command_line_lacks() -> None:
    url = "https://u:pa55word@example.org/my code"
    shown = subprocess.run(
        ["git", "ls-remote", "--get-url", "https://example.org/my%20code"],
        env={**os.environ, **git_alias(url, {})},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.strip() == "https://u:pa55word@example.org/my%20code"
