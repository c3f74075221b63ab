"""Secrets on a command line or in a URL become ``***`` before anyone is shown them.

The values of environment variables never get this far: only their names are shown.
"""

import re
import shlex

__all__ = ["MASK", "arguments", "command", "url"]

MASK = "***"

_SECRET = r"(?:pass|secret|token|key|auth|cred)"
_ASSIGNED = re.compile(rf"(?i)([^=]*{_SECRET}[^=]*=).+", re.DOTALL)
_HEADER = re.compile(rf"(?i)([\w-]*{_SECRET}[\w-]*:\s+).+", re.DOTALL)
_OPTION = re.compile(rf"(?i)-[^=]*{_SECRET}[^=]*")
_URL = re.compile(r"(?i)[a-z][a-z0-9+.-]*://")
_USERINFO = re.compile(r"(://)[^/@\s?#]+@")
_QUERY = re.compile(rf"(?i)([?&][^=&#\s]*{_SECRET}[^=&#\s]*=)[^&#\s]+")


def url(text: str) -> str:
    """Return ``text`` without user, password and secret-looking query values."""
    return _QUERY.sub(rf"\1{MASK}", _USERINFO.sub(rf"\1{MASK}@", text))


def arguments(words: list[str]) -> list[str]:
    """Return the words of a command line, those masked that look secret or follow an option that does."""
    shown = []
    previous = ""
    for word in words:
        secret = _OPTION.fullmatch(previous) and not word.startswith("--")
        shown.append(MASK if secret else _argument(word))
        previous = word
    return shown


def command(text: str) -> str:
    """Return a command line as it was written, or rewritten word by word where something is masked."""
    try:
        words = shlex.split(text)
    except ValueError:
        words = text.split()
    shown = arguments(words)
    return text if shown == words else " ".join(word if MASK in word else shlex.quote(word) for word in shown)


def _argument(word: str) -> str:
    match = None if _URL.match(word) else _ASSIGNED.fullmatch(word) or _HEADER.fullmatch(word)
    return f"{match[1]}{MASK}" if match else url(word)
