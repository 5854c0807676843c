"""Find where a module uses private parts of Dask: names with an underscore, also inherited ones."""

import ast
import contextlib
import importlib
import inspect
import textwrap
from functools import cache
from typing import Any

ROOTS = ("dask", "distributed", "dask_jobqueue")
ADAPTER = "cah_dask.run.cluster.private_parts"


def private_uses(source: str) -> list[str]:
    """Return the private parts of Dask that a module uses, with their lines."""
    finder = _Finder()
    finder.visit(ast.parse(source))
    return finder.uses


def is_private(name: str) -> bool:
    """Tell whether a name is neither public nor one of Python's own."""
    return name.startswith("_") and not name.endswith("__")


@cache
def private_names(kind: type) -> set[str]:
    """Return the private names in the classes of Dask that a class inherits from."""
    found: set[str] = set()
    for base in kind.__mro__:
        if base.__module__.partition(".")[0] in ROOTS:
            tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
            found |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
            found |= set(vars(base))
    return set(filter(is_private, found))


class _Finder(ast.NodeVisitor):
    """Knows, at each place of a module, what comes from Dask and what the class inherits."""

    def __init__(self) -> None:
        self.uses: list[str] = []
        self._from_dask: dict[str, Any] = {}
        self._inherited: set[str] = set()

    def visit_Import(self, node: ast.Import) -> None:
        roots = {alias.name.partition(".")[0] for alias in node.names}
        self._from_dask |= {name: importlib.import_module(name) for name in roots & {*ROOTS}}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        name = node.module or ""
        if name != ADAPTER and name.partition(".")[0] not in ROOTS:
            return
        module = importlib.import_module(name)
        for alias in node.names:
            self._from_dask[alias.asname or alias.name] = getattr(module, alias.name, None)
            if is_private(alias.name):
                self.uses.append(f"{node.lineno}: import {alias.name}")

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        outer = self._inherited
        for base in node.bases:
            with contextlib.suppress(NameError):  # it is no class of Dask
                kind = eval(ast.unparse(base), {"__builtins__": {}}, self._from_dask)
                self._from_dask[node.name] = kind
                self._inherited = self._inherited | private_names(kind)
        self.generic_visit(node)
        self._inherited = outer

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        if node.name in self._inherited:
            self.uses.append(f"{node.lineno}: def {node.name}")
        self.generic_visit(node)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_Attribute(self, node: ast.Attribute) -> None:
        is_own = ast.unparse(node.value) in ("self", "cls")
        is_meant = node.attr in self._inherited if is_own else is_private(node.attr)
        if self._from_dask and is_meant:
            self.uses.append(f"{node.lineno}: {ast.unparse(node)}")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and node.value in self._inherited:
            self.uses.append(f"{node.lineno}: {node.value!r}")
