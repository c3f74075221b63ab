"""The line between the table and the log: whose log it is, and how it is shown."""

from rich.cells import cell_len
from rich.text import Text

from pmdaemon.monit.layout import cut
from pmdaemon.monit.logpane import LogPane

__all__ = ["log_title"]


def log_title(pane: LogPane, name: str, width: int, *, unicode: bool, focused: bool) -> Text:
    """Return it in *width* characters."""
    line = "─" if unicode else "-"
    log = pane.log_lines
    below = pane.below()
    parts: list[tuple[str, str]] = []
    if log.paused:
        parts.append((f"paused, {log.waiting:,} waiting (Space goes on)", "yellow bold"))
    elif pane.follow:
        parts.append(("following", "green"))
    else:
        parts.append((f"{below:,} new below (f follows)" if below else "scrolled (f follows)", "yellow"))
    position = pane.position()
    if position is not None:
        which, count = position
        parts.append((f"'{cut(log.term, 20, unicode=unicode)}' {which or '-'} of {count:,}", "bold"))
    if not pane.wrap:
        parts.append(("cut", "dim"))
    parts.append((f"{len(log.lines):,} line{'' if len(log.lines) == 1 else 's'}", "dim"))

    def length() -> int:
        return sum(cell_len(text) + 3 for text, _ in parts)

    while len(parts) > 1 and length() > width - 12:
        parts.pop()
    shown = cut(name, max(8, width - length() - 6), unicode=unicode)
    title = Text(f"{line}{line} ", style="dim", no_wrap=True, end="")
    title.append(shown or "no process", "not dim bold reverse" if focused else "not dim bold")
    for text, style in parts:
        title.append(f" {line} ", "not dim")
        title.append(text, f"not dim {style}" if style != "dim" else style)
    title.append(" ")
    title.append(line * max(0, width - title.cell_len))
    return title
