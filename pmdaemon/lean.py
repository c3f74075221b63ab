"""Loads Twisted and Autobahn without what nobody here uses of them, a sixth of what a daemon would take.

Twisted's reactor imports OpenSSL wherever it is installed (https://github.com/twisted/twisted/issues/6004), for the
``startTLS`` of sockets. Our TLS is a protocol between the socket and HTTP, ``twisted.protocols.tls``, which needs
nothing of the reactor: who uses it loads OpenSSL then. Autobahn imports cryptography for the logins of WAMP. This is
imported before anything that imports the reactor; where it comes too late, or a version to come needs what is missing
here, all is as without it.
"""

import sys
from importlib import import_module
from types import ModuleType

__all__: list[str] = []

_UNUSED: dict[str, ModuleType | None] = {
    "OpenSSL": None,  # which makes its import fail, as where it is not installed
    "autobahn.wamp.auth": ModuleType("autobahn.wamp.auth"),
}


_IMPORTERS = (
    "autobahn.twisted.websocket",
    "twisted.internet.endpoints",
    "twisted.internet.posixbase",
    "twisted.web.client",
)


def _load() -> None:
    for name in _IMPORTERS:
        import_module(name)


def _load_without(unused: dict[str, ModuleType | None]) -> None:
    missing = {name: instead for name, instead in unused.items() if name not in sys.modules}
    sys.modules.update(missing)  # type: ignore[arg-type]  # None is a documented value
    try:
        _load()
    finally:
        for name in missing:
            del sys.modules[name]


try:
    _load_without(_UNUSED)
except ImportError:
    _load()
