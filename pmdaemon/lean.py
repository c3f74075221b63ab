"""Loads Twisted and Autobahn without what nobody here uses of them: 12 MiB less of memory.

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
"""What is not to be loaded -> what stands in for it meanwhile."""

_IMPORTERS = (
    "autobahn.twisted.websocket",
    "twisted.internet.endpoints",
    "twisted.internet.posixbase",
    "twisted.web.client",
)
"""All that would load it."""


def _load() -> None:
    for name in _IMPORTERS:
        import_module(name)


def _load_without_unused() -> None:
    missing = {name: instead for name, instead in _UNUSED.items() if name not in sys.modules}
    sys.modules.update(missing)  # type: ignore[arg-type]  # None is a documented value
    try:
        _load()
    finally:
        for name in missing:
            del sys.modules[name]


try:
    _load_without_unused()
except ImportError:  # it is needed after all
    _load()
