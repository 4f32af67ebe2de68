"""Which module of the package imports which, read from the source: at the top, lazily, and for type checking.

What an import may do is decided by the tests; here is only what is imported.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import segmind_dagster

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

ROOT = Path(segmind_dagster.__file__).parent
# alembic's revisions are run by alembic, and import nothing of ours
MODULES = sorted(path for path in ROOT.rglob("*.py") if "versions" not in path.parts)


@dataclass(frozen=True, slots=True)
class Import:
    """One name that a module imports.

    Args:
        module: the module that is named, dotted.
        attribute: what is taken from it; it may be a module as well.
        is_for_types: whether it is imported for type checking only.
    """

    module: str
    attribute: str | None = None
    is_for_types: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """What this may be the import of, the longest first."""
        return (self.module,) if self.attribute is None else (f"{self.module}.{self.attribute}", self.module)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def module_name(path: Path) -> str:
    """Dotted name of a module by its file."""
    parts = (ROOT.name, *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def unit(name: str) -> str:
    """The top package or top module that a module belongs to; the root package is one of its own."""
    _, _, inner = name.partition(".")
    return inner.split(".")[0] or ROOT.name


def imports(node: ast.AST, *, is_for_types: bool = False) -> Iterator[Import]:
    """Every import anywhere in a tree."""
    if isinstance(node, ast.Import):
        yield from (Import(alias.name, None, is_for_types) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "a relative import; every other one names the whole module"
        yield from (Import(node.module or "", alias.name, is_for_types) for alias in node.names)
    elif isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
        for child in node.body:
            yield from imports(child, is_for_types=True)
        for child in node.orelse:
            yield from imports(child, is_for_types=is_for_types)
    else:
        for child in ast.iter_child_nodes(node):
            yield from imports(child, is_for_types=is_for_types)


def targets(tree: ast.AST, known: Collection[str], *, with_types: bool) -> set[str]:
    """The known modules that a tree imports. Of `from package import module` that is the module alone."""
    return {
        next(name for name in each.names if name in known)
        for each in imports(tree)
        if (with_types or not each.is_for_types) and any(name in known for name in each.names)
    }


def graph(*, with_types: bool) -> dict[str, set[str]]:
    """Which modules each module of the package imports."""
    trees = {module_name(path): parsed(path) for path in MODULES}
    return {name: targets(tree, trees.keys(), with_types=with_types) for name, tree in trees.items()}


def cycles(edges: Mapping[str, Collection[str]]) -> list[list[str]]:
    """The strongly connected components of a graph that hold more than one node, or one that leads to itself."""

    def reached(start: str) -> set[str]:
        found: set[str] = set()
        waiting = [start]
        while waiting:
            for target in edges.get(waiting.pop(), ()):
                if target not in found:
                    found.add(target)
                    waiting.append(target)
        return found

    reach = {node: reached(node) for node in edges}
    components = {tuple(sorted(other for other in reach[node] if node in reach.get(other, ()))) for node in edges}
    return [list(component) for component in sorted(components) if component]
