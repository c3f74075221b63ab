"""``pmdaemon export``: what runs, as an ecosystem file."""

import os
import sys
from collections.abc import Sequence
from typing import Any

import click
import msgspec

from pmdaemon.cli.command import Exit, Failure
from pmdaemon.cli.place import Place, connected
from pmdaemon.cli.targets import select, targets_argument
from pmdaemon.core.spec import AppSpec

__all__ = ["export_command"]


@click.command("export")
@targets_argument
@click.option("-o", "--output", metavar="FILE", help="File to write, .yaml or .json, for you alone (default: stdout).")
@click.option("--with-env", is_flag=True, help="With the values of env and all that is otherwise masked.")
@connected
def export_command(place: Place, targets: Sequence[str], output: str | None, with_env: bool) -> None:
    """Write what runs as an ecosystem file, which `pmdaemon start -c` takes.

    Values of environment variables, and what looks like a secret, are left out unless --with-env is given.

    \b
      pmdaemon export -o ecosystem.yaml
      pmdaemon export web --with-env -o web.json
    """
    suffix = os.path.splitext(output)[1].lower() if output is not None else ".yaml"
    if suffix not in (".yaml", ".yml", ".json"):
        raise Failure(f"cannot write {output}: it ends neither in .yaml nor in .json", exit=Exit.USAGE)
    with place.client() as client:
        names = dict.fromkeys(each.app for each in select(client, targets))
        apps = {name: client.config(name, secrets=with_env).config for name in names}
    left_out = [] if with_env else [note for name, config in apps.items() for note in _left_out(name, config)]
    text = _text({"apps": [_app(name, config, with_env) for name, config in apps.items()]}, suffix)
    if output is None:
        sys.stdout.write(text)
    else:
        _write(output, text)
        click.echo(f"wrote {len(apps)} apps to {output}", err=True)
    for note in left_out:
        click.echo(f"left out: {note}", err=True)
    if left_out:
        click.echo("--with-env writes it too", err=True)


def _app(name: str, config: dict[str, Any], with_env: bool) -> dict[str, Any]:
    """Return an app as the file has it: what differs from the defaults."""
    defaults = {field.encode_name: _default(field) for field in msgspec.structs.fields(AppSpec)}
    kept = {key: value for key, value in config.items() if key in defaults and value != defaults[key]}
    if not with_env:
        kept.pop("env", None)
    return {"name": name, "script": kept.pop("script"), **{key: kept[key] for key in kept if key != "name"}}


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default


def _left_out(name: str, config: dict[str, Any]) -> list[str]:
    env = [f"values of env of {name}: {', '.join(config['env'])}"] if config.get("env") else []
    masked = sorted(key for key, value in config.items() if key != "env" and "***" in str(value))
    return [*env, *([f"secrets of {name}, which are *** in {', '.join(masked)}"] if masked else [])]


def _text(document: dict[str, Any], suffix: str) -> str:
    if suffix == ".json":
        return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"
    import yaml  # for this alone

    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)
    return text


def _write(path: str, text: str) -> None:
    """Write a file that is for this user alone from its first byte on."""
    new = f"{path}.new"
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(descriptor, 0o600)
            file.write(text)
        os.replace(new, path)
    except OSError as why:
        raise Failure(f"cannot write {path}: {(why.strerror or str(why)).lower()}", exit=Exit.DENIED) from why
