"""Addresses without their secrets: what may stand in a log, and what git must be told."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote

HIDDEN = "***"


def clean(url: str) -> str:
    """`url` without user name, password and query; git@host:path and folders stay as they are."""
    if "://" not in url:
        return url
    scheme, rest = url.split("://", 1)
    return f"{scheme}://{rest.split('?', 1)[0].rpartition('@')[2]}"


def for_git(url: str) -> str:
    """`url` as git takes it: blanks in a web address are written %20."""
    return url.replace(" ", "%20") if re.match(r"https?://", url) else url


class Redactor:
    """Takes the secrets of given URLs out of text, and the user part of every other URL."""

    def __init__(self, urls: Iterable[str]) -> None:
        secrets: dict[str, str] = {}
        for url in urls:
            for form in {url, for_git(url), unquote(url)}:
                if "://" not in form or clean(form) == form:
                    continue
                rest = form.split("://", 1)[1]
                place, _, query = rest.partition("?")
                user = place.rpartition("@")[0]
                user = "" if form.startswith("ssh://") and ":" not in user else user
                secrets[form] = clean(form)
                password = user.partition(":")[2]
                secrets |= {part: HIDDEN for part in (user, password, query) if len(part) > 2}
        # The longest first, so that no part of a secret stays behind.
        self._secrets = sorted(secrets.items(), key=lambda pair: -len(pair[0]))

    def __call__(self, text: str) -> str:
        """`text` without the secrets."""
        for secret, instead in self._secrets:
            text = text.replace(secret, instead)
        return re.sub(r"(https?://)[^/\s@]+@", rf"\1{HIDDEN}@", text)


def git_alias(url: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Variables by which git takes the clean URL and uses `url`.

    So the secret stands neither in a command line nor in the clone's own settings.
    """
    count = int(environ.get("GIT_CONFIG_COUNT") or 0)
    return {
        "GIT_CONFIG_COUNT": str(count + 1),
        f"GIT_CONFIG_KEY_{count}": f"url.{for_git(url)}.insteadOf",
        f"GIT_CONFIG_VALUE_{count}": for_git(clean(url)),
    }
