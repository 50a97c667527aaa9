"""Secrets kept out of logs: passwords in addresses, and values of keys that name a secret."""

from __future__ import annotations

import re

HIDDEN = "***"
_ADDRESS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*://)[^\s/@'\"]+@")
_KEY = re.compile(
    r"(?P<key>[\w\-]*(?:password|passwd|secret|token|api[_\-]?key|access[_\-]?key|credential)[\w\-]*"
    r"['\"]?\s*(?:[=:]|\bis\b)\s*)(?P<quote>['\"]?)(?P<value>[^\s'\",;&}\])]+)",
    re.IGNORECASE,
)
_BEARER = re.compile(r"(?P<word>\b(?:bearer|basic)\s+)[A-Za-z0-9+/=_.\-]{8,}", re.IGNORECASE)


def redact(text: str) -> str:
    """The text with every secret that can be recognised replaced by three stars.

    `https://name:word@host/x` loses `name:word`, `token=abc`, `"password": "abc"` and
    `the setting api_key is 'abc'` lose their value, and so does an authorisation header.
    """
    text = _ADDRESS.sub(rf"\g<scheme>{HIDDEN}@", text)
    text = _KEY.sub(rf"\g<key>\g<quote>{HIDDEN}", text)
    return _BEARER.sub(rf"\g<word>{HIDDEN}", text)
