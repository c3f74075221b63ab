"""``pmdaemon start``: a program, what is stopped, or the apps of a file; and a daemon where there is none."""

import os
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from pmdaemon.cli.appoptions import app_options, config_of
from pmdaemon.cli.command import Exit, Failure
from pmdaemon.cli.launch import launch, runs
from pmdaemon.cli.orders import Order, carry_out, waiting_options
from pmdaemon.cli.place import Place, connected
from pmdaemon.cli.targets import complete_names
from pmdaemon.client import ProcessObject, Start
from pmdaemon.core.names import named_after
from pmdaemon.core.selection import close_matches, matches
from pmdaemon.errors import InvalidConfiguration

__all__ = ["start_command"]


class _WithArguments(click.Command):
    """A command that leaves what stands behind ``--`` alone."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options of what stands before."""
        before, behind = (args[: args.index("--")], args[args.index("--") + 1 :]) if "--" in args else (args, [])
        ctx.meta["behind"] = behind
        return super().parse_args(ctx, before)


@click.command("start", cls=_WithArguments)
@click.argument("what", nargs=-1, metavar="[SCRIPT|TARGET]... [-- ARGUMENTS]", shell_complete=complete_names)
@click.option("-c", "--config", "file", metavar="FILE", help="An ecosystem file (JSON, YAML or TOML).")
@click.option(
    "--only", multiple=True, metavar="NAME", help="With --config: this app alone. May be given several times."
)
@click.option("--replace", is_flag=True, help="Take the place of an app of that name, at once.")
@click.option("--no-daemon", is_flag=True, help="Start no daemon where there is none.")
@click.option(
    "--daemon-port",
    type=click.IntRange(0, 65535),
    envvar="PMDAEMON_PORT",
    help="Port of a daemon that is started (default: $PMDAEMON_PORT or 9615).",
)
@waiting_options
@app_options
@connected
def start_command(
    place: Place,
    what: Sequence[str],
    file: str | None,
    only: Sequence[str],
    replace: bool,
    no_daemon: bool,
    daemon_port: int | None,
    as_json: bool,
    no_wait: bool,
    timeout: int | None,
    **flags: Any,
) -> None:
    """Start a program, what is stopped, or the apps of a file.

    Where there is no daemon, one is started in the background. The flags below, from --user on, are the fields of an
    app; docs/configuration.rst says more of them.

    \b
      pmdaemon start server.js --name web --port 3000 --health-url http://localhost:3000/ -- --verbose
      pmdaemon start -c ecosystem.yaml --only web
      pmdaemon start web 'worker-*'
    """
    config, behind = config_of(flags), list(click.get_current_context().meta["behind"])
    apps = _apps(file, only) if file is not None else []
    if file is not None and (what or config or behind):
        raise click.UsageError("--config says what is to run: give no script, target or field of an app beside it")
    if only and file is None:
        raise click.UsageError("--only goes with --config")
    if not no_daemon and not runs(place):
        launch(place, daemon_port)
    elif not what and file is None and not no_daemon:
        raise Failure(
            "cannot start anything: the daemon runs, and nothing else was named",
            "see: pmdaemon start --help",
            exit=Exit.USAGE,
        )
    with place.client() as client:
        everyone = client.processes()
        if file is None:
            orders, running = _orders(what, config, behind, everyone, replace), []
        else:
            made = {app.name: _of_file(place, app, file, everyone, replace) for app in apps}
            orders = [order for order in made.values() if order is not None]
            running = [name for name, order in made.items() if order is None]
        if running:
            again = "pmdaemon reload takes over what has changed in the file"
            click.echo(f"running already: {', '.join(running)}; {again}", err=True)
        carry_out(place, client, orders, as_json=as_json, no_wait=no_wait, timeout=timeout)


def _orders(
    what: Sequence[str], config: dict[str, Any], behind: list[str], everyone: Sequence[ProcessObject], replace: bool
) -> list[Order]:
    """One order for each that is stopped or new."""
    orders = []
    if len(what) > 1 and ("name" in config or behind):
        raise click.UsageError("a name and arguments are for one script")
    for word in what:
        meant = [each for each in everyone if matches(word, each)]
        if word == "all" or (meant and not config and not behind and not os.path.isfile(word)):
            orders += [Order(each.name, Start(process=each.id)) for each in meant]
            continue
        name = config.get("name") or named_after(word)
        if name is None:
            raise Failure(f"cannot make a name of '{word}'", "give one: --name NAME", exit=Exit.USAGE)
        _must_be_a_script(word, everyone)
        declared = {"cwd": os.getcwd(), **config, "script": _script(word), **({"args": behind} if behind else {})}
        declared.pop("name", None)
        orders.append(Order(name, Start(process=name, config=declared, replace=replace or None)))
    return orders


def _must_be_a_script(word: str, everyone: Sequence[ProcessObject]) -> None:
    """Raise Failure for a word that is no program here and looks like the name of a process."""
    program = word.split()[0] if word.split() else word
    if os.path.exists(program) or shutil.which(program) or "/" in program or "." in program:
        return
    near = close_matches(word, list(dict.fromkeys(name for each in everyone for name in (each.app, each.name))))
    raise Failure(
        f"cannot start '{word}': it is neither a process nor a program",
        *([f"did you mean: {', '.join(near)}"] if near else []),
        "see all: pmdaemon list",
        exit=Exit.NOT_FOUND,
    )


def _script(word: str) -> str:
    """Return the script as the daemon finds it, wherever that runs."""
    return shlex.quote(os.path.abspath(word)) if os.path.isfile(word) else word


def _apps(file: str, only: Sequence[str]) -> list[Any]:
    """Return the apps of an ecosystem file, or those named."""
    from pmdaemon.core.ecosystem import parse

    path = Path(file)
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as why:
        reason = (why.strerror or str(why)).lower() if isinstance(why, OSError) else "it is not UTF-8"
        raise Failure(f"cannot read {file}: {reason}", exit=Exit.UNREADABLE) from why
    try:
        apps = parse(text, path.name, str(path.resolve().parent))
    except InvalidConfiguration as why:
        code = Exit.INVALID if why.details.get("path") else Exit.UNPARSABLE
        raise Failure(why.message, *([why.hint] if why.hint else []), exit=code) from why
    unknown = [name for name in only if name not in [app.name for app in apps]]
    if unknown:
        names = [app.name for app in apps]
        near = close_matches(unknown[0], names)
        raise Failure(
            f"cannot find an app '{unknown[0]}' in {file}",
            f"did you mean: {', '.join(near)}" if near else f"it has: {', '.join(names)}",
            exit=Exit.NOT_FOUND,
        )
    return [app for app in apps if not only or app.name in only]


def _of_file(place: Place, app: Any, file: str, everyone: Sequence[ProcessObject], replace: bool) -> Order | None:
    """Return the order that has an app of a file run, or None where it runs."""
    present = [each for each in everyone if each.app == app.name]
    if not replace and any(each.status in ("online", "starting", "restarting") for each in present):
        return None
    over = (replace or bool(present)) or None
    if place.address.socket is not None:
        return Order(app.name, Start(process=app.name, file=os.path.abspath(file), replace=over))
    config = {key: value for key, value in msgspec.to_builtins(app).items() if key != "name"}
    return Order(app.name, Start(process=app.name, config=config, replace=over))
