"""What standard output is: a terminal or not, with colours or without, and how wide."""

import os
import re
import shutil
import sys
import zlib
from typing import Final, NamedTuple

__all__ = ["Terminal"]

_CODES: Final = {
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "cyan": "36",
    "dim": "2",
    "bold": "1",
}
_OF_NAMES: Final = ("36", "35", "33", "34", "32", "96", "95", "93", "94", "92")
_SEQUENCE: Final = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI
    r"|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)"  # OSC and other strings
    r"|\x1b[ -/]*[0-~]?"  # other escapes
    r"|[\x00-\x08\x0b-\x1f\x7f\x80-\x9f]"
)
_SGR: Final = re.compile(r"\x1b\[[0-9;:]*m")


class Terminal(NamedTuple):
    """How to print; ``colors`` and ``unicode`` for the table's lines apply to a terminal alone."""

    is_terminal: bool
    colors: bool
    unicode: bool

    @classmethod
    def of(cls, color: str = "auto") -> "Terminal":
        """Return what standard output is; *color* is ``auto``, ``always`` or ``never``."""
        tty = sys.stdout.isatty()
        wanted = tty and os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")
        if os.environ.get("FORCE_COLOR") and not os.environ.get("NO_COLOR"):
            wanted = True
        colors = wanted if color == "auto" else color == "always"
        return cls(tty, colors, "utf" in (sys.stdout.encoding or "").lower())

    @property
    def width(self) -> int:
        """Columns of the terminal."""
        return shutil.get_terminal_size().columns

    def paint(self, text: str, style: str) -> str:
        """Return *text* in a style of one or more words, where there are colours."""
        codes = ";".join(_CODES[word] for word in style.split())
        return f"\x1b[{codes}m{text}\x1b[0m" if self.colors and codes else text

    def of_name(self, name: str, text: str) -> str:
        """Return *text* in the colour that *name* always has."""
        code = _OF_NAMES[zlib.crc32(name.encode()) % len(_OF_NAMES)]
        return f"\x1b[{code}m{text}\x1b[0m" if self.colors else text

    def harmless(self, text: str) -> str:
        """Return *text* of somebody else's without what a terminal would act on; colours stay, where there are any.

        Into a pipe it goes as it is.
        """
        if not self.is_terminal or text.isprintable():
            return text
        colors = self.colors

        def kept(match: re.Match[str]) -> str:
            return match[0] if colors and _SGR.fullmatch(match[0]) else ""

        clean = _SEQUENCE.sub(kept, text)
        return f"{clean}\x1b[0m" if "\x1b" in clean else clean
