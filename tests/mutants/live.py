"""The functions, constants and caches of the running process, into which a mutant is put."""

from __future__ import annotations

import ast
import functools
import gc
import importlib
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType, FunctionType, ModuleType
from typing import Any

from tests.mutants.mutations import ROOT, Mutant, changed, constants, functions


@dataclass(frozen=True)
class Live:
    """The functions of the running process by their file, and the caches of the package."""

    functions: Mapping[str, Sequence[FunctionType]]
    caches: Sequence[Any]

    @staticmethod
    def found(paths: Sequence[str]) -> Live:
        """As they are once the modules of these paths have been imported."""
        for path in paths:
            importlib.import_module(path.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
        by_path: dict[str, list[FunctionType]] = defaultdict(list)
        caches: list[Any] = []
        for item in gc.get_objects():
            if type(item) is FunctionType:
                by_path[item.__code__.co_filename].append(item)
            elif type(item) is functools._lru_cache_wrapper and str(item.__module__).startswith("workbench"):  # pyright: ignore[reportPrivateUsage]
                caches.append(item)
        return Live(by_path, caches)

    def put_module(self, path: str, module: ast.Module) -> None:
        """Give every function of a module the code that it has in another version of it."""
        self._put_codes(path, module, None)

    @staticmethod
    def imported(path: str, names: Mapping[str, Any]) -> bool:
        """Whether a module's names hold the module of a path itself,."""
        file = str(ROOT / path)
        return any(isinstance(value, ModuleType) and getattr(value, "__file__", None) == file for value in names.values())

    def put(self, one: Mutant) -> None:
        """Make the running process behave as if the module had been imported with the mutant in it."""
        path, names, tree = str(ROOT / one.path), set(changed(one)), ast.parse(one.source)
        self._put_codes(one.path, tree, names)
        nodes = dict(functions(tree))
        for function in self.functions[path]:
            if function.__code__.co_qualname in names:
                _put_defaults(function, nodes[function.__code__.co_qualname])
        before = constants((ROOT / one.path).read_text())
        for name, value in constants(one.source).items():
            if before.get(name) != value:
                _put_constant(path, name, value)
                for function in self.functions[path]:  # constants are defaults of arguments
                    if function.__code__.co_qualname in nodes:
                        _put_defaults(function, nodes[function.__code__.co_qualname])
        for cache in self.caches:
            cache.cache_clear()

    def _put_codes(self, path: str, module: ast.Module, names: set[str] | None) -> None:
        file = str(ROOT / path)
        codes = {code.co_qualname: code for code in _codes(compile(module, file, "exec"))}
        for function in self.functions[file]:
            name = function.__code__.co_qualname
            if name in codes and (names is None or name in names) and "<locals>" not in name:
                function.__code__ = codes[name]


def _codes(code: CodeType) -> Iterator[CodeType]:
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield inner
            yield from _codes(inner)


def _put_defaults(function: FunctionType, node: ast.FunctionDef) -> None:
    def value(default: ast.expr) -> object:
        return eval(ast.unparse(default), function.__globals__)

    function.__defaults__ = tuple(value(default) for default in node.args.defaults) or None
    named = zip(node.args.kwonlyargs, node.args.kw_defaults)
    function.__kwdefaults__ = {one.arg: value(default) for one, default in named if default is not None} or None


def _put_constant(path: str, name: str, value: str) -> None:
    """Set a constant in its module and in every module that imported it by its name."""
    modules = [module for module in list(sys.modules.values()) if type(getattr(module, "__dict__", None)) is dict]
    owner = next(module for module in modules if vars(module).get("__file__") == path)
    old, new = vars(owner)[name], eval(value, vars(owner))
    for module in modules:
        if vars(module).get(name) is old:
            setattr(module, name, new)
