"""The import rule that `segmind_dagster/__init__.py` promises, read from the source and not from a run."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import segmind_dagster

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(segmind_dagster.__file__).parent
MODULES = sorted(path for path in ROOT.rglob("*.py") if "versions" not in path.parts)
every_module = pytest.mark.parametrize("path", MODULES, ids=[str(path.relative_to(ROOT)) for path in MODULES])

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
    "segmind_dagster.orchestration": {"orchestration", "definitions", "cli"},
    "segmind_dagster.cli": {"cli"},
    "segmind_dagster.definitions": {"definitions", "cli", "orchestration"},
    "segmind_dagster.sandbox": {"sandbox", "cli", "orchestration"},
}
# a plan depends on its inputs alone: no clock, no file, no network
IMPURE = {"os", "pathlib", "time", "socket", "random", "subprocess", "asyncio", "threading", "sqlite3", "fsspec"}


def imports(tree: ast.Module) -> Iterator[str]:
    """Every module that is imported anywhere in a module, also lazily and for type checking."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def offences(importer: str, tree: ast.Module) -> list[str]:
    """The imports that a package or top module must leave to others."""
    return sorted({
        name
        for name in imports(tree)
        for prefix, allowed in RESERVED.items()
        if (name == prefix or name.startswith(f"{prefix}.")) and importer not in allowed
    })  # fmt: skip


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


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@every_module
def test_a_module_imports_only_what_its_package_may(path: Path) -> None:
    importer = path.relative_to(ROOT).parts[0].removesuffix(".py")
    assert offences(importer, parsed(path)) == []


@every_module
def test_a_module_opens_with_a_charter(path: Path) -> None:
    assert ast.get_docstring(parsed(path))


@every_module
def test_no_module_reads_the_environment_while_it_is_imported(path: Path) -> None:
    assert environment_reads_at_import(parsed(path)) == []


@pytest.mark.parametrize("path", sorted((ROOT / "planning").glob("*.py")), ids=lambda path: path.name)
def test_planning_is_pure(path: Path) -> None:
    assert not {name.split(".")[0] for name in imports(parsed(path))} & IMPURE


def test_every_package_that_the_rule_names_exists() -> None:
    names = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in MODULES}
    assert {name for allowed in RESERVED.values() for name in allowed} <= names


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
        ("runner", "from segmind_dagster import orchestration"),
        ("runner", "from sqlalchemy.exc import IntegrityError"),
        ("reports", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from sqlalchemy import Connection"),
        ("outputs", "from segmind_dagster.sandbox.server import SandboxServer"),
    ],
)
def test_an_import_that_breaks_the_rule_would_be_noticed(importer: str, source: str) -> None:
    assert offences(importer, ast.parse(source))


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
