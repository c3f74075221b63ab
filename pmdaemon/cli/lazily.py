"""Has a module loaded when it is used rather than when it is imported: a short command is mostly imports.

Not by `importlib.util.LazyLoader`: for that one the import statement itself is a use, in Python 3.11.
"""

import importlib
import sys
from types import ModuleType
from typing import Any

__all__ = ["defer"]


class _Deferred(ModuleType):
    """Stands in for a module until something of it is asked for."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def defer(name: str) -> None:
    """Have the module *name*, of a package, loaded by its first use, whoever imports it from now on."""
    if name not in sys.modules:
        package, _, short = name.rpartition(".")
        sys.modules[name] = module = _Deferred(name)
        setattr(importlib.import_module(package), short, module)
