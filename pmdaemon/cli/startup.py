"""``pmdaemon startup``: a unit for systemd, made for this installation."""

import getpass
import os
import shutil
import sys
from typing import Final

import click

from pmdaemon.cli.place import home_option, home_path

__all__ = ["UNIT", "startup_command", "unit"]

UNIT: Final = """\
[Unit]
Description=PMDaemon process manager
After=network.target

[Service]
Type=notify
NotifyAccess=main
{user}ExecStart={twistd} -n --pidfile= pmdaemon --home {home}{options}
{directory}# SIGUSR2 puts the code that is installed now in the place of the daemon; its processes go on.
ExecReload=/bin/kill -USR2 $MAINPID
# The daemon is restarted, the keeper and the processes are not touched: that is what they are for.
KillMode=process
Restart=always
RestartSec=1
WatchdogSec=30
OOMPolicy=continue
Delegate=yes
LimitNOFILE=65536
# Longer than the longest kill_timeout of an app.
TimeoutStopSec=30

[Install]
WantedBy={target}
"""


@click.command("startup")
@home_option
@click.option("--user", "user_unit", is_flag=True, help="A unit of your own systemd, which needs no root.")
@click.option("-c", "--config", metavar="FILE", help="An ecosystem file that it starts with.")
@click.option("--port", type=click.IntRange(0, 65535), help="Its port (default: 9615).")
def startup_command(home: str | None, user_unit: bool, config: str | None, port: int | None) -> None:
    """Print a unit for systemd, which has the daemon started with the machine.

    \b
      pmdaemon startup | sudo tee /etc/systemd/system/pmdaemon.service
      sudo systemctl enable --now pmdaemon
      pmdaemon startup --user > ~/.config/systemd/user/pmdaemon.service
    """
    options = [*(["--config", os.path.abspath(config)] if config else []), *(["--port", str(port)] if port else [])]
    print(
        unit(
            twistd=_twistd(),
            home=str(home_path(home)),
            options=options,
            user=None if user_unit else getpass.getuser(),
        ),
        end="",
    )
    where = "~/.config/systemd/user/pmdaemon.service" if user_unit else "/etc/systemd/system/pmdaemon.service"
    systemctl = "systemctl --user" if user_unit else "sudo systemctl"
    click.echo(f"put it into {where}, then: {systemctl} enable --now pmdaemon", err=True)


def unit(*, twistd: str, home: str, options: list[str], user: str | None, directory: str = "") -> str:
    """Return the text of the unit; *user* None for one of the user's own systemd."""
    return UNIT.format(
        twistd=twistd,
        home=_word(home),
        options="".join(f" {_word(each)}" for each in options),
        user=f"User={user}\n" if user else "",
        directory=directory,
        target="multi-user.target" if user else "default.target",
    )


def _word(text: str) -> str:
    """A word as systemd reads it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if any(character.isspace() or character in "\"'\\" for character in text) else escaped


def _twistd() -> str:
    """Where the twistd of this installation is."""
    beside = os.path.join(os.path.dirname(sys.executable), "twistd")
    return beside if os.path.exists(beside) else shutil.which("twistd") or beside
