"""Which statements of the package a test reaches: each notes itself, so that whatever else runs costs nothing more.

A tracing function is called for every call in the process; it nearly doubled the time of the tests.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable

from tests.mutants.mutations import ROOT, functions

Statement = tuple[str, int]  # path and line
_BLOCKS = ("body", "orelse", "finalbody")
_NOTE = "__reached__"


def noting(path: str, note: Callable[[Statement], object]) -> ast.Module:
    """The module of a path, in which every statement of a function calls `note` before it runs."""
    setattr(builtins, _NOTE, note)
    tree = ast.parse((ROOT / path).read_text())
    for _, function in functions(tree):
        for node in ast.walk(function):
            for name in _BLOCKS:
                if isinstance(block := getattr(node, name, None), list):
                    setattr(node, name, [new for statement in block for new in (*_notes(path, statement), statement)])
    return ast.fix_missing_locations(tree)


def _notes(path: str, statement: ast.stmt) -> list[ast.stmt]:
    if _is_docstring(statement):
        return []
    call = ast.Call(ast.Name(_NOTE, ast.Load()), [ast.Constant((path, statement.lineno))], [])
    return [ast.copy_location(ast.Expr(call), statement)]


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def statement_at(path: str, line: int) -> Statement | None:
    """The innermost statement of a function that holds a line; its first one, for a line of its head; None outside of functions."""
    for _, function in functions(ast.parse((ROOT / path).read_text())):
        first, last = function.lineno, function.end_lineno or function.lineno
        if first <= line <= last:
            inside = [node for node in ast.walk(function) if isinstance(node, ast.stmt) and node is not function]
            holding = [node.lineno for node in inside if node.lineno <= line <= (node.end_lineno or node.lineno)]
            return path, max(holding, default=next((node.lineno for node in function.body if not _is_docstring(node)), first))
    return None
