"""Stands in for the drivers of warehouses that the tests do not install, as far as importing them goes.

dlt's clients name their drivers in imports, base classes and annotations, but make SQL by themselves. What is asked of
a driver here is an empty class; nothing can be connected.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_DRIVERS = ("google.cloud", "google.api_core", "snowflake", "databricks")
_OF_DLT = "dlt.destinations.impl."


class _Anything(type):
    """A class with every attribute, each such a class again."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _thing(name)


def _thing(name: str) -> Any:
    # a base class or an error for some, called with anything by others
    return _Anything(name, (Exception,), {"__init__": lambda *_, **__: None})


class _Driver(ModuleType):
    __path__: Sequence[str] = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _thing(name)


class _Finder(MetaPathFinder, Loader):
    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        is_driver = any(fullname == driver or fullname.startswith(f"{driver}.") for driver in _DRIVERS)
        return ModuleSpec(fullname, self, is_package=True) if is_driver else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Driver(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing in it."""


@contextmanager
def standing_in() -> Iterator[None]:
    """For the length of a block; afterwards the drivers are as absent as before."""
    before = dict(sys.modules)
    finder = _Finder()
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in sys.modules.keys() - before.keys():
            if name.startswith((*_DRIVERS, *(_OF_DLT + kind for kind in ("bigquery", "snowflake", "databricks")))):
                del sys.modules[name]
