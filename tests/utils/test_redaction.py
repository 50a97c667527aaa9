"""What a secret looks like, and what does not."""

from __future__ import annotations

import pytest

from utils.redaction import redact


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://me:word@host/x.git", "https://***@host/x.git"),
        ("clone http://tok3n@host:80/a b", "clone http://***@host:80/a b"),
        ("token=abc&x=1", "token=***&x=1"),
        ("{'password': 'a1', 'x': 2}", "{'password': '***', 'x': 2}"),
        ("AWS_SECRET_ACCESS_KEY=ab/c+d", "AWS_SECRET_ACCESS_KEY=***"),
        ("the setting api_key is 'abc'; it must be", "the setting api_key is '***'; it must be"),
        ("Authorization: Bearer abcdefgh.ijk", "Authorization: Bearer ***"),
    ],
)
def test_secrets_are_hidden(text: str, expected: str) -> None:
    assert redact(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "https://host/path@2x.png",
        "epoch 3/10  box 0.0412  mAP50 0.613",
        "/in/assets/9c/3fd0.jpg: cannot be decoded",
        "the setting epochs is 'many'; it must be a whole number",
        "mail me@host.example",
    ],
)
def test_everything_else_stays(text: str) -> None:
    assert redact(text) == text
