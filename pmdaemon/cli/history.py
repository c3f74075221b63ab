"""``pmdaemon history``: a figure of a process over time."""

from datetime import datetime

import click
import msgspec

from pmdaemon.cli.place import Place, connected, json_option, print_json
from pmdaemon.cli.targets import process_argument
from pmdaemon.cli.words import how_much, moment_of
from pmdaemon.client import GetHistory

__all__ = ["history_command", "sparkline"]

_BARS = "▁▂▃▄▅▆▇█"
_ASCII = "_.-=+*#@"


@click.command("history")
@process_argument
@click.option("--metric", type=click.Choice(["cpu", "memory"]), default="cpu", help="What to show (default: cpu).")
@click.option("--since", type=moment_of, metavar="TIME", help="From then on: 10m, 2h, 1d ago (default: 1h).")
@click.option("--until", type=moment_of, metavar="TIME", help="Up to then.")
@json_option
@connected
def history_command(
    place: Place, process: str, metric: str, since: int | None, until: int | None, as_json: bool
) -> None:
    """Show CPU or memory of a process over time: as a line on a terminal, a point a line into a pipe.

    \b
      pmdaemon history web
      pmdaemon history web --metric memory --since 1d
    """
    with place.client() as client:
        history = client.history(GetHistory(process=process, metric=metric, from_=since, to=until))  # type: ignore[arg-type]  # click has checked it
    if as_json:
        print_json(msgspec.to_builtins(history))
        return
    points = history.points
    if not points:
        click.echo("nothing was measured in that time", err=True)
        return
    if not place.terminal.is_terminal:
        print("".join(f"{datetime.fromtimestamp(at / 1000).isoformat()}\t{value}\n" for at, value in points), end="")
        return
    values = [value for _, value in points]

    def worded(value: float) -> str:
        return how_much(value) if metric == "memory" else f"{value:.1f} %"

    def time(at: int) -> str:
        return datetime.fromtimestamp(at / 1000).strftime("%m-%d %H:%M:%S")

    bars = _BARS if place.terminal.unicode else _ASCII
    print(f"{history.process}  {metric}, every {history.resolution} s, {len(points)} points")
    print(place.terminal.paint(sparkline(values, place.terminal.width - 2, bars), "cyan"))
    print(f"{time(points[0][0])} to {time(points[-1][0])}")
    average = sum(values) / len(values)
    print(
        f"least {worded(min(values))}  average {worded(average)}  most {worded(max(values))}  last {worded(values[-1])}"
    )


def sparkline(values: list[float], width: int, bars: str = _BARS) -> str:
    """Return values as bars, at most *width* of them, each the largest of what it stands for."""
    step = max(1, -(-len(values) // max(1, width)))
    groups = [max(values[start : start + step]) for start in range(0, len(values), step)]
    top = max(groups) or 1
    return "".join(bars[min(len(bars) - 1, int(value / top * (len(bars) - 1) + 0.5))] for value in groups)
