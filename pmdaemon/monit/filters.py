"""Which processes are shown: text and ``key:value`` terms, all of which have to hold."""

import operator
import re
from collections.abc import Callable
from typing import Final

from pmdaemon.core.events import ProcessMetricsEntry

__all__ = ["KEYS", "wanted"]

Wanted = Callable[[ProcessMetricsEntry], bool]

_WORDS: Final[dict[str, Callable[[ProcessMetricsEntry], str]]] = {
    "name": lambda each: each.name,
    "app": lambda each: each.app,
    "ns": lambda each: each.namespace,
    "status": lambda each: each.status,
    "health": lambda each: each.health,
}
_FIGURES: Final[dict[str, Callable[[ProcessMetricsEntry], float]]] = {
    "cpu": lambda each: each.cpu,
    "mem": lambda each: each.memory,
    "restarts": lambda each: each.restarts,
    "id": lambda each: each.id,
    "pid": lambda each: each.pid or 0,
    "port": lambda each: each.port or 0,
}
KEYS: Final = (*_WORDS, *_FIGURES)
"""What a term can ask for."""

_COMPARE: Final = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le, "": operator.eq}
_UNITS: Final = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}


def wanted(text: str) -> Wanted:
    """Return what tells whether a process is wanted; a term that is not finished holds for all."""
    terms = [_term(word) for word in text.split()]
    return lambda entry: all(term(entry) for term in terms)


def _term(word: str) -> Wanted:
    key, colon, value = word.partition(":")
    if colon and key in _WORDS:
        of = _WORDS[key]
        return lambda entry: value.casefold() in of(entry).casefold()
    if colon and key in _FIGURES:
        return _figure(_FIGURES[key], value)
    text = word.casefold()
    return lambda entry: any(text in each.casefold() for each in (entry.name, entry.namespace, entry.status))


def _figure(of: Callable[[ProcessMetricsEntry], float], value: str) -> Wanted:
    match = re.fullmatch(r"([<>]=?|)([0-9]+(?:\.[0-9]+)?)([kmg]?)b?", value.lower())
    if match is None:
        return lambda entry: True
    compare = _COMPARE[match[1]]
    number = float(match[2]) * _UNITS[match[3]]
    return lambda entry: compare(of(entry), number)
