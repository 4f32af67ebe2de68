"""What a process of tests computes once instead of in every test; nothing here changes what is computed.

SQLAlchemy compiles a statement once for each engine, and every ledger that a test opens has two engines of its own.
dlt reads the type hints of its schemas and settings thousands of times in a load, and resolves all settings of a
destination to learn what that can do, thirty times. Dagster's instance in memory reads all of Dagster's migrations to
note the newest, and assets are built from dlt sources.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from copy import copy
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from segmind_dagster.ledger import store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from alembic.config import Config
    from sqlalchemy import Engine

_STATEMENTS = 5000


@contextmanager
def computed_once() -> Iterator[None]:
    """Statements, type hints and migrations are kept for as long as the block lasts."""
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        _compile_statements_once(patch)
        _read_type_hints_once(patch)
        _look_at_settings_types_once(patch)
        _ask_destinations_once(patch)
        _read_migrations_once(patch)
        yield


@contextmanager
def assets_built_once() -> Iterator[None]:
    """Code locations differ in their resources, so they can share their assets."""
    from segmind_dagster.orchestration import build

    with pytest.MonkeyPatch.context() as patch:
        for kind in ("model", "account", "usage", "spend"):
            name = f"build_{kind}_assets"
            patch.setattr(build, name, cache(getattr(build, name)))
        yield


def _compile_statements_once(patch: pytest.MonkeyPatch) -> None:
    first = create_engine("sqlite://", query_cache_size=_STATEMENTS)
    # a dialect learns from its first connection
    first.connect().close()
    make = store._engine

    def made(url: str, **options: Any) -> Engine:
        engine = make(url, **options)
        if engine.dialect.name == "sqlite":
            engine.dialect, engine._compiled_cache = first.dialect, first._compiled_cache
        return engine

    patch.setattr(store, "_engine", made)


def _read_type_hints_once(patch: pytest.MonkeyPatch) -> None:
    from dlt.common import validation

    read, known = validation.get_type_hints, {}

    def hints(spec: type, **options: Any) -> dict[str, Any]:
        if spec not in known:
            known[spec] = read(spec, **options)
        return known[spec]

    patch.setattr(validation, "get_type_hints", hints)


def _look_at_settings_types_once(patch: pytest.MonkeyPatch) -> None:
    from dlt.common.configuration.specs import base_configuration

    for name in ("is_secret_hint", "extract_inner_hint"):
        look = getattr(base_configuration, name)
        for module in [module for path, module in sys.modules.items() if path.startswith("dlt.")]:
            if vars(module).get(name) is look:
                patch.setattr(module, name, _remembering(look))


def _ask_destinations_once(patch: pytest.MonkeyPatch) -> None:
    from dlt.common.destination import Destination

    ask = Destination.capabilities

    def capabilities(self: Any, config: Any = None, naming: Any = None) -> Any:
        if config is not None:
            return ask(self, config, naming)
        known = vars(self).setdefault("_known_capabilities", {})
        way = type(naming), getattr(naming, "max_length", None)
        if way not in known:
            known[way] = ask(self, None, naming)
        return copy(known[way])

    patch.setattr(Destination, "capabilities", capabilities)


def _remembering(look: Callable[..., Any]) -> Callable[..., Any]:
    known = cache(look)

    def looked(hint: Any, **options: bool) -> Any:
        try:
            return known(hint, **options)
        except TypeError:  # one that cannot be hashed
            return look(hint, **options)

    return looked


def _read_migrations_once(patch: pytest.MonkeyPatch) -> None:
    read, known = ScriptDirectory.from_config, {}

    def directory(config: Config) -> ScriptDirectory:
        place = config.get_main_option("script_location")
        if place not in known:
            known[place] = read(config)
        return known[place]

    patch.setattr(ScriptDirectory, "from_config", directory)
