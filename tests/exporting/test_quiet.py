"""Converters are silent unless asked, and everything is as before afterwards."""

from __future__ import annotations

import logging
import warnings

import pytest

from exporting.quiet import quiet


@pytest.mark.parametrize("verbose", [False, True])
def test_what_is_heard(verbose, capsys, caplog):
    logger = logging.getLogger("torch.onnx")
    # A task's log, set up by another test, lets only errors of this logger through.
    caplog.set_level(logging.WARNING, logger="torch.onnx")
    before = logger.level
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with quiet(verbose=verbose):
            print("progress")
            logger.warning("a log line")
            warnings.warn("old", DeprecationWarning, stacklevel=1)
    heard = [bool(capsys.readouterr().out), bool(caplog.records), bool(caught)]
    assert heard == [verbose] * 3
    assert logger.level == before


def test_levels_come_back_after_an_error():
    logger = logging.getLogger("onnxscript")
    before = logger.level
    with pytest.raises(RuntimeError), quiet():
        raise RuntimeError
    assert logger.level == before
