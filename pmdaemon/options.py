"""What ``twistd pmdaemon`` takes, and what it makes of twistd's own options: the first half of a start.

Whatever is wrong ends it with one line, before anything is made. The parts are made and joined in ``service``.
"""

# mypy: disallow-untyped-calls=False
# (twisted.python.usage has few annotations)

import os
import sqlite3
import sys
from getopt import getopt
from typing import TYPE_CHECKING, Any, NoReturn

from twisted.python import usage

import pmdaemon
from pmdaemon import console
from pmdaemon.core.units import size
from pmdaemon.daemon.actions import read_ecosystem
from pmdaemon.daemon.home import Home, HomeError
from pmdaemon.daemon.store import StoreError
from pmdaemon.errors import PMDaemonError
from pmdaemon.tokens import TokenFile, TokenFileError
from pmdaemon.web.credentials import load_api_key
from pmdaemon.web.listen import ListenError, remote
from pmdaemon.web.places import Places

if TYPE_CHECKING:
    from twisted.internet.ssl import CertificateOptions

    from pmdaemon.web.jwtkey import JwtKey

__all__ = ["REFUSALS", "Options", "names_of", "refuse"]

PORT = 9615
_INSECURE = 61
REFUSALS = (
    *(PMDaemonError, HomeError, ListenError, StoreError, TokenFileError),
    *(sqlite3.Error, NotADirectoryError, usage.UsageError),
)
"""What is told the user in one line; anything else is a defect."""


def refuse(why: Exception) -> NoReturn:
    """End the start."""
    hint = getattr(why, "hint", None)
    raise SystemExit(f"pmdaemon: {why}" + (f"; {hint}" if hint else ""))


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise ValueError("a port is a number from 0 to 65535")
    return port


def _size(text: str) -> int:
    try:
        return size(text)
    except ValueError as why:
        raise ValueError(f"a size {why}") from None


class Options(usage.Options):
    """What ``twistd pmdaemon`` takes."""

    synopsis = "[options]"
    optParameters = [  # noqa: RUF012  # twisted reads it so
        ["port", "p", PORT, "Port of the WebSocket API and the pages; 0 takes a free one", _port],
        ["host", None, None, "Address to listen on (default: 127.0.0.1 and ::1)"],
        ["home", None, None, "Directory of state and logs (default: $PMDAEMON_HOME or ~/.pmdaemon)"],
        ["config", "c", None, "Ecosystem file whose apps to run (JSON, YAML or TOML)"],
        ["www", None, None, "Directory of your own pages, served at /www/"],
        ["log-cap", None, "10G", "Bytes that all logs may take, old ones are deleted then; 0 for any number", _size],
        ["tls-cert", None, None, "TLS certificate in PEM, with those that lead to its authority"],
        ["tls-key", None, None, "The certificate's key in PEM"],
        ["tls-client-ca", None, None, "Take only clients with a certificate of these authorities (PEM)"],
        ["api-key-file", None, None, "File with a key that lets clients in (default: $PMDAEMON_API_KEY)"],
        ["jwt-key-file", None, None, "File with the key that JSON Web Tokens are signed with"],
    ]

    optFlags = [  # noqa: RUF012  # twisted reads it so
        ["no-keeper", None, "Hold the processes in the daemon itself: they end with it"],
        ["read-only", None, "Let nobody do more than look"],
        ["allow-null-origin", None, "Let pages without an origin (local files, but anybody's frames too) look"],
        ["insecure-remote", None, "Listen to other machines without TLS or without any token"],
    ]

    def __init__(self) -> None:
        super().__init__()
        self["allow_host"] = []
        self["allow_origin"] = []

    def opt_allow_host(self, host: str) -> None:
        """Another name of this machine that requests may be sent to; may be given several times."""
        self["allow_host"].append(host)

    def opt_allow_origin(self, origin: str) -> None:
        """Another page that may connect, such as https://example.org; may be given several times."""
        self["allow_origin"].append(origin)

    def opt_version(self) -> None:
        """Print the version and exit."""
        sys.stdout.write(f"pmdaemon {pmdaemon.__version__}\n")
        raise SystemExit(0)

    def parseOptions(self, options: list[str] | None = None) -> None:
        """Read the command line; SystemExit with one line where it is wrong."""
        try:
            super().parseOptions(options)
        except usage.UsageError as why:
            raise SystemExit(f"pmdaemon: {why}; see twistd pmdaemon --help") from None

    def postOptions(self) -> None:
        """Read the files, then claim the home: twistd looks for the pid file, which is there, before it makes us."""
        twistd: Any = self.parent or {}
        own_umask = os.umask(0o077)
        self["umask"] = own_umask if twistd.get("umask") is None else twistd["umask"]
        try:
            for option in ("chroot", "uid", "gid"):
                if twistd.get(option) is not None:
                    raise usage.UsageError(f"cannot be started with --{option}; start twistd as the user it is to be")
            self["places"] = Places(
                [*names_of(self["host"]), *self["allow_host"]],
                self["allow_origin"],
                allow_null=bool(self["allow-null-origin"]),
            )
            self["tls"] = _tls(self["tls-cert"], self["tls-key"], self["tls-client-ca"])
            self["api_key"] = load_api_key(self["api-key-file"], os.environ)
            self["jwt_key"] = _jwt_key(self["jwt-key-file"])
            self["apps"] = read_ecosystem(self["config"]) if self["config"] else []
            self["www"] = _directory(self["www"])
            if isinstance(self["log-cap"], int) and self["no-keeper"]:
                raise usage.UsageError("cannot keep logs within --log-cap: with --no-keeper nobody rotates them")
            self["log_cap"] = size(self["log-cap"])
            home = self["claimed"] = Home.claim(self["home"] or os.environ.get("PMDAEMON_HOME") or "~/.pmdaemon")
            self._check_reach(home)
        except REFUSALS as why:
            refuse(why)
        _settle_in(twistd, home)

    def _check_reach(self, home: Home) -> None:
        """End the start with 61 where other machines could run programs here, and nobody said that they may."""
        reached = remote([self["host"]] if self["host"] else [])
        if not reached or self["insecure-remote"]:
            return
        tokens = self["api_key"] or self["jwt_key"] or TokenFile(home.tokens, lambda: 0.0).all()
        if self["tls"] is None or not tokens:
            sys.stderr.write(
                f"pmdaemon: refusing to listen on {reached[0]} without TLS and a token; add --tls-cert and --tls-key, "
                "and make a token (pmdaemon token create), or say --insecure-remote\n"
            )
            raise SystemExit(_INSECURE)


def names_of(host: str | None) -> list[str]:
    """Return how requests name the address that was asked for, where that is one that can be named."""
    if not host or host in ("0.0.0.0", "::"):
        return []
    name = host.partition("%")[0]  # of fe80::1%eth0 the address alone
    return [f"[{name}]" if ":" in name else name]


def _directory(path: str | None) -> str | None:
    if path is None:
        return None
    if not os.path.isdir(path):
        raise NotADirectoryError(f"cannot serve --www {path}: it is not a directory")
    return os.path.abspath(path)


def _jwt_key(path: str | None) -> "JwtKey | None":
    if path is None:
        return None
    from pmdaemon.web.jwtkey import JwtKey  # PyJWT is of no use to a daemon without such a key

    return JwtKey.load(path)


def _tls(cert: str | None, key: str | None, client_ca: str | None) -> "CertificateOptions | None":
    if (cert, key, client_ca) == (None, None, None):
        return None
    from pmdaemon.web.tls import load_tls  # OpenSSL is of no use to a daemon without a certificate

    return load_tls(cert, key, client_ca)


def _settle_in(twistd: Any, home: Home) -> None:
    """Have twistd put its pid file and its log into the home, and print little, unless it was told otherwise."""
    if not twistd:
        return
    if not any(option == "--pidfile" for option, _ in getopt(sys.argv[1:], twistd.shortOpt, twistd.longOpt)[0]):
        twistd["pidfile"] = str(home.pidfile)
    if twistd["syslog"] or twistd["logger"]:
        return
    path = twistd["logfile"] or ("-" if twistd["nodaemon"] else str(home.log))
    twistd["logger"] = console.name_for(None if path == "-" else path)
