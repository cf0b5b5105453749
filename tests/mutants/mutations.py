"""Faulty versions of a module: mutmut's operators on every function and on module constants, and faults that once went unnoticed.

mutmut's own runner is not used: it mutates neither properties nor other decorated functions, and starts cold for every module.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import libcst as cst
from mutmut.mutation.mutators import mutation_operators, operator_string

ROOT = Path(__file__).parents[2]
_TELLING = ("tell", "progress", "part")


@dataclass(frozen=True)
class Mutant:
    """A module with one fault in it. `group`: known, whole or sample."""

    group: str
    path: str
    source: str

    @property
    def diff(self) -> str:
        """What was changed, as a diff without context."""
        before, after = (ROOT / self.path).read_text().splitlines(), self.source.splitlines()
        lines = list(difflib.unified_diff(before, after, self.path, self.path, lineterm="", n=0))[2:]
        return "\n".join([self.path, *lines])


@dataclass(frozen=True)
class Place:
    """A node, the function or constant around it, and one way to change the node."""

    node: cst.CSTNode
    changed: cst.CSTNode


def places(path: str, *, words: bool) -> tuple[cst.Module, list[Place]]:
    """Every place of a module that an operator changes.

    `words`: texts, errors and what is told of progress too, where words are what is tested.
    """
    module = cst.parse_module((ROOT / path).read_text())
    visitor = _Visitor(words)
    module.visit(visitor)
    return module, visitor.found


def mutant(group: str, path: str, module: cst.Module, place: Place) -> Mutant:
    """The module with one place changed."""
    changed = module.deep_replace(place.node, place.changed)
    return Mutant(group, path, changed.code)  # pyright: ignore[reportAttributeAccessIssue]


class _Visitor(cst.CSTVisitor):
    """Collects places inside functions and in the values of module constants; never in annotations, decorators or class bodies."""

    def __init__(self, words: bool) -> None:
        self.found: list[Place] = []
        self._words, self._inside = words, 0

    def visit_FunctionDef(self, node: cst.FunctionDef) -> bool:
        self._inside += 1
        node.params.visit(self)
        node.body.visit(self)
        self._inside -= 1
        return False

    def visit_Module(self, node: cst.Module) -> None:
        for line in node.body:
            for part in line.body if isinstance(line, cst.SimpleStatementLine) else ():
                # An alias of a type, as `Literal["a", "b"]`, is an annotation that has a name.
                if isinstance(part, cst.Assign) and not isinstance(part.value, cst.Subscript):
                    self._inside += 1
                    part.value.visit(self)
                    self._inside -= 1

    def visit_Annotation(self, node: cst.Annotation) -> bool:
        return False

    def visit_Raise(self, node: cst.Raise) -> bool:
        return self._words

    def visit_Call(self, node: cst.Call) -> bool:
        return self._words or not (isinstance(node.func, cst.Name) and node.func.value in _TELLING)

    def visit_Arg(self, node: cst.Arg) -> bool:
        return self._words or not _is_progress(node)

    def visit_Decorator(self, node: cst.Decorator) -> bool:
        return False

    def on_visit(self, node: cst.CSTNode) -> bool:
        if self._inside:
            for kind, operator in mutation_operators:
                if isinstance(node, kind) and (self._words or operator is not operator_string):
                    places = [Place(node, changed) for changed in operator(node)]  # pyright: ignore[reportArgumentType]
                    self.found += [place for place in places if self._words or not _tells(place)]
        return super().on_visit(node)


def _tells(place: Place) -> bool:
    """Whether a change is one of what is told: of an error, of progress, of the argument that hands progress on."""
    if isinstance(place.node, cst.Call) and isinstance(place.changed, cst.Call):
        if isinstance(place.node.func, cst.Name) and place.node.func.value in _TELLING:
            return True
        before, after = ([arg for arg in call.args if _is_progress(arg)] for call in (place.node, place.changed))
        return len(before) != len(after) or not all(a is b for a, b in zip(before, after))
    return False


def _is_progress(arg: cst.Arg) -> bool:
    return arg.keyword is not None and arg.keyword.value == "progress"


def functions(source: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Qualified name and node of every function and method that stands at the level of the module or of a class."""

    def inside(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, ast.FunctionDef]]:
        for node in body:
            if isinstance(node, ast.FunctionDef):
                yield prefix + node.name, node
            elif isinstance(node, ast.ClassDef):
                yield from inside(node.body, f"{prefix}{node.name}.")

    yield from inside(ast.parse(source).body, "")


def changed(one: Mutant) -> list[str]:
    """Names of the functions in which a mutant differs; none where a module constant does."""
    before = {name: ast.dump(node) for name, node in functions((ROOT / one.path).read_text())}
    return [name for name, node in functions(one.source) if before.get(name) != ast.dump(node)]


def constants(source: str) -> dict[str, str]:
    """Names of module constants and their values as source."""
    return {
        node.targets[0].id: ast.unparse(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
