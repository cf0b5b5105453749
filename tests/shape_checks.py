"""The checker that runs over the package while tests run: beartype, with the shapes of jaxtyping.

Functions within functions are left to their callers, which are checked: each would be decorated anew whenever its outer function runs,
which took a third of the time of the suite. An int is a float to it, as it is to pyright. `Self` is not checked: jaxtyping decorates
methods one by one, where beartype knows no class.
"""

from __future__ import annotations

import ast
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Self

import jaxtyping
import jaxtyping._import_hook as hook
from beartype import BeartypeConf, BeartypeHintOverrides, beartype

_LIKE_PYRIGHT = BeartypeConf(is_pep484_tower=True, hint_overrides=BeartypeHintOverrides({Self: Any}))


def checked_at_top(function: Any) -> Any:
    """Decorate a function with checks of its arguments and its result."""
    return beartype(conf=_LIKE_PYRIGHT)(function)


def check_while_importing(package: str) -> None:
    """Check every function and method of a package that is imported from now on, but for functions within functions."""
    whole = hook.JaxtypingTransformer.visit_FunctionDef

    def visit(self: Any, node: ast.FunctionDef) -> ast.FunctionDef:
        is_inner = any(isinstance(parent, ast.FunctionDef) for parent in self._parents)
        self._no_type_check_level += is_inner
        found = whole(self, node)
        self._no_type_check_level -= is_inner
        return found

    hook.JaxtypingTransformer.visit_FunctionDef = visit
    jaxtyping.install_import_hook(package, f"{__name__}.{checked_at_top.__name__}")


@contextmanager
def unchecked() -> Generator[None]:
    """Call the package with what no annotation allows, as a user can: what it says then is its own."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
