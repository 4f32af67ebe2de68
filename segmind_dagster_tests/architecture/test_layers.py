"""What a module may import: other packages, other modules, other layers. Read from the source, not from a run."""

from __future__ import annotations

import ast
import re
import sys
from typing import TYPE_CHECKING

import pytest
from import_graph import MODULES, ROOT, cycles, graph, imports, module_name, parsed, targets, unit

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

every_module = pytest.mark.parametrize("path", MODULES, ids=[str(path.relative_to(ROOT)) for path in MODULES])

# from the ground up: a module imports from lower layers and from its own package
LAYERS = (
    {"errors"},
    {"settings", "registry"},
    {"lifecycle"},
    {"prompts", "ledger", "gateway", "outputs"},
    # a data folder is a ledger and its outputs, opened together; a plan is pure and does not know it
    {"planning", "data_folder"},
    {"runner"},
    {"source"},
    {"recovery", "reports", "export"},
    {"checks"},
    {"orchestration"},
    {"component", "definitions", "cli", "commands"},
    # the package itself, for what it offers to others
    {ROOT.name},
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
# importer and imported in one layer
SIBLINGS = {
    ("cli", "commands"): "the command line, cut by groups of commands",
    ("definitions", "component"): "the code location is the component with this repository's settings",
}
# The local Segmind stands apart from the layers: it must not share the client's reading of the API.
APART = "sandbox"
APART_MAY_IMPORT = {"errors", "registry"}
MAY_IMPORT_APART = {"orchestration", "cli"}
# Imports that break the order today, importer and imported module. Each one is a debt: the list only gets shorter.
DEBTS: frozenset[tuple[str, str]] = frozenset()

# what may only be imported by some packages: prefix of the import -> packages and top modules that may
RESERVED = {
    "dagster": {"orchestration", "definitions"},
    "dagster_dlt": {"orchestration", "definitions"},
    "dlt": {"source", "reports"},
    "dlt.sources.helpers": {"source"},
    "aiohttp": {"gateway", "sandbox"},
    "requests": {"gateway", "source"},
    "urllib.request": {"gateway", "source"},
    "http.client": {"gateway", "source", "sandbox"},
    "httpx": {"gateway", "source"},
    "urllib3": {"gateway", "source"},
    "sqlalchemy": {"ledger"},
    "alembic": {"ledger"},
    # the load lock of a ledger in PostgreSQL
    "psycopg": {"source"},
}
# what is decided here depends on its inputs alone: no clock, no file, no network
PURE = ("lifecycle", "planning")
IMPURE = {"os", "pathlib", "time", "socket", "random", "subprocess", "asyncio", "threading", "sqlite3", "fsspec"}


def offences(importer: str, tree: ast.Module) -> list[str]:
    """The imports of others' programs that a package or top module must leave to others."""
    return sorted({
        name
        for each in imports(tree)
        for name in each.names
        for prefix, allowed in RESERVED.items()
        if (name == prefix or name.startswith(f"{prefix}.")) and importer not in allowed
    })  # fmt: skip


def is_allowed(importer: str, imported: str) -> bool:
    """Whether a module of one unit may import one of another."""
    if importer == imported or (importer, imported) in SIBLINGS:
        return True
    if importer == APART:
        return imported in APART_MAY_IMPORT
    if imported == APART:
        return importer in MAY_IMPORT_APART
    return LEVEL[imported] < LEVEL[importer]


def imports_upward(importer: str, tree: ast.AST, known: Collection[str]) -> list[str]:
    """The modules that a module imports against the order of the layers."""
    found = targets(tree, known, with_types=True)
    return sorted(name for name in found if not is_allowed(unit(importer), unit(name)))


def impurities(tree: ast.AST) -> set[str]:
    """What a pure module must not import; a type is no deed."""
    return {each.module.split(".")[0] for each in imports(tree) if not each.is_for_types} & IMPURE


def environment_reads_at_import(tree: ast.Module) -> list[int]:
    """Lines that look at the environment while the module is being imported."""
    lines: list[int] = []

    def visit(node: ast.AST) -> None:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            now = [*node.args.defaults, *(default for default in node.args.kw_defaults if default)]
            for child in [*now, *getattr(node, "decorator_list", [])]:
                visit(child)
            return
        is_read = isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv"}
        if is_read or (isinstance(node, ast.ImportFrom) and {a.name for a in node.names} & {"environ", "getenv"}):
            lines.append(node.lineno)  # type: ignore[attr-defined]
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree)
    return lines


@every_module
def test_a_module_imports_only_what_its_package_may(path: Path) -> None:
    importer = path.relative_to(ROOT).parts[0].removesuffix(".py")
    assert offences(importer, parsed(path)) == []


def test_every_module_has_a_place_in_the_layers() -> None:
    assert {unit(module_name(path)) for path in MODULES} - {APART} <= LEVEL.keys()


@every_module
def test_a_module_imports_only_from_lower_layers_and_its_own_package(path: Path) -> None:
    importer = module_name(path)
    known = {module_name(each) for each in MODULES}
    found = imports_upward(importer, parsed(path), known)
    assert found == sorted(imported for name, imported in DEBTS if name == importer)


def test_packages_of_one_layer_have_no_import_cycle() -> None:
    found: dict[str, set[str]] = {unit(module_name(path)): set() for path in MODULES}
    for importer, imported in graph(with_types=True).items():
        found[unit(importer)] |= {unit(name) for name in imported} - {unit(importer)}
    assert cycles(found) == []


def test_modules_have_no_import_cycle() -> None:
    assert cycles(graph(with_types=False)) == []


@every_module
def test_a_module_opens_with_a_charter(path: Path) -> None:
    assert ast.get_docstring(parsed(path))


def test_the_charter_of_a_package_names_each_of_its_modules() -> None:
    for package in (path.parent for path in MODULES if path.name == "__init__.py" and path.parent != ROOT):
        named = set(re.findall(r"`(\w+)`", ast.get_docstring(parsed(package / "__init__.py")) or ""))
        modules = {path.stem for path in MODULES if path.parent == package} - {"__init__", "env"}
        assert modules - named == set(), package.name


@every_module
def test_no_module_reads_the_environment_while_it_is_imported(path: Path) -> None:
    assert environment_reads_at_import(parsed(path)) == []


PURE_MODULES = [path for path in MODULES if unit(module_name(path)) in PURE]
pure_modules = pytest.mark.parametrize("path", PURE_MODULES, ids=[str(path.relative_to(ROOT)) for path in PURE_MODULES])


@pure_modules
def test_decision_modules_are_pure(path: Path) -> None:
    assert impurities(parsed(path)) == set()


@pytest.mark.parametrize("path", sorted((ROOT / "lifecycle").rglob("*.py")), ids=lambda path: path.name)
def test_lifecycle_uses_the_standard_library_and_rapidfuzz_alone(path: Path) -> None:
    used = {each.module.split(".")[0] for each in imports(parsed(path))}
    assert used - sys.stdlib_module_names - {ROOT.name} <= {"rapidfuzz"}


def test_every_package_that_the_rule_names_exists() -> None:
    names = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in MODULES}
    assert {name for allowed in RESERVED.values() for name in allowed} <= names
    assert set(PURE) | {APART} | APART_MAY_IMPORT | MAY_IMPORT_APART <= names


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("runner", "import dagster as dg"),
        ("runner", "def lazily():\n    from dagster_dlt import DagsterDltResource"),
        ("prompts", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import dlt.extract"),
        ("reports", "from dlt.sources.helpers.rest_client import RESTClient"),
        ("reports", "from dlt.sources import helpers"),
        ("ledger", "import requests"),
        ("planning", "from aiohttp import web"),
        ("runner", "from sqlalchemy.exc import IntegrityError"),
        ("reports", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from sqlalchemy import Connection"),
    ],
)
def test_an_import_that_breaks_the_rule_would_be_noticed(importer: str, source: str) -> None:
    assert offences(importer, ast.parse(source))


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("segmind_dagster.ledger.store", "from segmind_dagster.runner.report import Ended"),
        ("segmind_dagster.ledger.store", "from segmind_dagster import runner"),
        ("segmind_dagster.ledger.store", "import segmind_dagster.runner.report"),
        ("segmind_dagster.ledger.store", "def lazily():\n    from segmind_dagster.runner import work"),
        (
            "segmind_dagster.ledger.store",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from segmind_dagster.runner.report import Ended",
        ),
        ("segmind_dagster.ledger.store", "from segmind_dagster.gateway import wire"),
        ("segmind_dagster.settings", "from segmind_dagster.registry import MODELS"),
        ("segmind_dagster.lifecycle.states", "from segmind_dagster.ledger.records import Claim"),
        ("segmind_dagster.planning.plan", "from segmind_dagster.data_folder import opened"),
        ("segmind_dagster.commands.pages", "from segmind_dagster.cli import main"),
        ("segmind_dagster.runner.report", "from segmind_dagster import __doc__"),
        ("segmind_dagster.outputs", "from segmind_dagster.sandbox.server import SandboxServer"),
        ("segmind_dagster.sandbox.server", "from segmind_dagster.gateway.wire import Wire"),
    ],
)
def test_an_import_against_the_order_of_the_layers_would_be_noticed(importer: str, source: str) -> None:
    known = {module_name(path) for path in MODULES}
    assert imports_upward(importer, ast.parse(source), known)


@pytest.mark.parametrize(
    ("edges", "found"),
    [
        ({"a": ["b"], "b": ["c"], "c": []}, []),
        ({"a": ["b"], "b": ["a"]}, [["a", "b"]]),
        ({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]}, [["a", "b", "c"]]),
        ({"a": ["b"], "b": ["a"], "c": ["d", "a"], "d": ["c"]}, [["a", "b"], ["c", "d"]]),
        ({"a": ["a"], "b": ["outside"]}, [["a"]]),
    ],
)
def test_an_import_cycle_would_be_noticed(edges: dict[str, list[str]], found: list[list[str]]) -> None:
    assert cycles(edges) == found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import time", {"time"}),
        ("def lazily():\n    from asyncio import sleep", {"asyncio"}),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import random", set()),
        ("import math", set()),
    ],
)
def test_an_impure_import_would_be_noticed(source: str, found: set[str]) -> None:
    assert impurities(ast.parse(source)) == found


@pytest.mark.parametrize(
    ("source", "is_read"),
    [
        ("import os\nKEY = os.environ['KEY']", True),
        ("import os\nclass A:\n    key = os.getenv('KEY')", True),
        ("import os\ndef f(key=os.environ.get('KEY')):\n    return key", True),
        ("from os import environ", True),
        ("import os\nif os.environ:\n    pass", True),
        ("import os\ndef f():\n    return os.environ['KEY']", False),
        ("import os\nclass A:\n    def f(self):\n        return os.environ", False),
        ("import os\nf = lambda: os.environ", False),
    ],
)
def test_a_read_of_the_environment_at_import_would_be_noticed(source: str, is_read: bool) -> None:
    assert bool(environment_reads_at_import(ast.parse(source))) is is_read
