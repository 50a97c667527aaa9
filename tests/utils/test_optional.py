"""A package that is not there is one sentence that names it."""

from __future__ import annotations

import json
import sys

import pytest

from utils.errors import Code, TaskError
from utils.optional import optional_package


def test_a_package_that_is_there():
    assert optional_package("json", purpose="A test") is json


@pytest.mark.parametrize("name", ["no_such_package", "no_such_package.part"])
def test_a_package_that_is_not_there(name):
    with pytest.raises(TaskError, match=r"^A test needs the package no_such_package,") as caught:
        optional_package(name, purpose="A test")
    assert caught.value.code is Code.CONFIG


def test_a_package_that_is_there_but_broken(monkeypatch):
    monkeypatch.setitem(sys.modules, "json", None)
    with pytest.raises(TaskError, match="install json, or do without"):
        optional_package("json", purpose="A test")
