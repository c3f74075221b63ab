"""What makes a picture fit its terminal: without colours, without Unicode; and cells as text for Textual."""

import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.color import Color
from textual.filter import LineFilter

from pmdaemon.monit.layout import Cell

__all__ = ["Ascii", "Colourless", "words"]

_LINES: Final = dict(zip("─━│┃╭╮╰╯┌┐└┘├┤┬┴┼▔▁▎▊█…•", "--||++++++++++++" + "--||#.*", strict=False))


def words(cells: Iterable[Cell]) -> Text:
    """Return cells as one text."""
    return Text.assemble(*cells)


class Colourless(LineFilter):
    """Takes all colours away; bold, dim, reverse and underlined stay."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """Return the segments without colours."""
        return [
            Segment(segment.text, _colourless(segment.style) if segment.style else None, segment.control)
            for segment in segments
        ]


@lru_cache(1024)
def _colourless(style: Style) -> Style:
    return Style(bold=style.bold, dim=style.dim, italic=style.italic, underline=style.underline, reverse=style.reverse)


class Ascii(LineFilter):
    """Writes all that is not ASCII as something that is, as wide as it was."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """Return the segments in ASCII."""
        return [
            segment if segment.text.isascii() else Segment(_ascii(segment.text), segment.style, segment.control)
            for segment in segments
        ]


@lru_cache(4096)
def _ascii(text: str) -> str:
    return "".join(each if each.isascii() else _like(each) for each in text)


def _like(character: str) -> str:
    plain = "".join(filter(str.isascii, unicodedata.normalize("NFKD", character)))
    width = cell_len(character)
    if len(plain) == width and plain:
        return plain
    return _LINES.get(character, "?" * width)
