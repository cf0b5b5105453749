"""Faulty versions of a module: mutmut's operators on every function and on module constants, and faults that once went unnoticed.

mutmut's own runner is not used: it mutates neither properties nor other decorated functions, and starts cold for every module.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import cast

import libcst as cst
from libcst.metadata import CodeRange, MetadataWrapper, WhitespaceInclusivePositionProvider
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
    def line(self) -> int:
        """The first line, from 1, in which it differs from the module."""
        pairs = enumerate(zip((ROOT / self.path).read_text().splitlines(), self.source.splitlines()), 1)
        return next(number for number, (before, after) in pairs if before != after)

    @property
    def diff(self) -> str:
        """What was changed, as a diff without context."""
        before, after = (ROOT / self.path).read_text().splitlines(), self.source.splitlines()
        lines = list(difflib.unified_diff(before, after, self.path, self.path, lineterm="", n=0))[2:]
        return "\n".join([self.path, *lines])


@dataclass(frozen=True)
class Place:
    """Where a module can be changed, from one offset to another of its source, and what then stands there."""

    path: str
    start: int
    end: int
    text: str

    def mutant(self, group: str) -> Mutant:
        """The module with this place changed."""
        source = (ROOT / self.path).read_text()
        return Mutant(group, self.path, source[: self.start] + self.text + source[self.end :])


def places(path: str, *, words: bool) -> list[Place]:
    """Every place of a module that an operator changes.

    `words`: texts, errors and what is told of progress too, where words are what is tested.
    """
    source = (ROOT / path).read_text()
    starts = [0, *accumulate(len(line) for line in source.splitlines(keepends=True))]
    wrapper = MetadataWrapper(cst.parse_module(source), unsafe_skip_copy=True)
    ranges, visitor = wrapper.resolve(WhitespaceInclusivePositionProvider), _Visitor(words)
    wrapper.module.visit(visitor)

    def place(node: cst.CSTNode, changed: cst.CSTNode) -> Place:
        found = cast(CodeRange, ranges[node])
        start, end = (starts[at.line - 1] + at.column for at in (found.start, found.end))
        # A node alone does not know how far its block is indented.
        own, text = (wrapper.module.code_for_node(one) for one in (node, changed))
        indents = (" " * n for n in range(0, 80, 4))
        indent = next((by for by in indents if own.replace("\n", f"\n{by}") == source[start:end]), "")
        return Place(path, start, end, text.replace("\n", f"\n{indent}"))

    return [place(*found) for found in visitor.found]


class _Visitor(cst.CSTVisitor):
    """Collects places inside functions and in the values of module constants; never in annotations, decorators or class bodies."""

    def __init__(self, words: bool) -> None:
        self.found: list[tuple[cst.CSTNode, cst.CSTNode]] = []
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
        return self._words or not _is_telling(node)

    def visit_Arg(self, node: cst.Arg) -> bool:
        return self._words or not _is_progress(node)

    def visit_Decorator(self, node: cst.Decorator) -> bool:
        return False

    def on_visit(self, node: cst.CSTNode) -> bool:
        if self._inside:
            for kind, operator in mutation_operators:
                if isinstance(node, kind) and (self._words or operator is not operator_string):
                    found = [(node, changed) for changed in operator(node)]  # pyright: ignore[reportArgumentType]
                    self.found += [both for both in found if self._words or not _tells(*both)]
        return super().on_visit(node)


def _tells(node: cst.CSTNode, changed: cst.CSTNode) -> bool:
    """Whether a change is one of what is told: of an error, of progress, of the argument that hands progress on."""
    if isinstance(node, cst.Call) and isinstance(changed, cst.Call):
        if _is_telling(node):
            return True
        before, after = ([arg for arg in call.args if _is_progress(arg)] for call in (node, changed))
        return len(before) != len(after) or not all(a is b for a, b in zip(before, after))
    return False


def _is_telling(call: cst.Call) -> bool:
    """`tell(…)`, and `tell.part(…)`, which names a stretch of the whole."""
    name = call.func.value if isinstance(call.func, cst.Attribute) else call.func
    return isinstance(name, cst.Name) and name.value in _TELLING


def _is_progress(arg: cst.Arg) -> bool:
    return arg.keyword is not None and arg.keyword.value == "progress"


def functions(module: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Qualified name and node of every function and method that stands at the level of the module or of a class."""

    def inside(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, ast.FunctionDef]]:
        for node in body:
            if isinstance(node, ast.FunctionDef):
                yield prefix + node.name, node
            elif isinstance(node, ast.ClassDef):
                yield from inside(node.body, f"{prefix}{node.name}.")

    yield from inside(module.body, "")


def changed(one: Mutant) -> list[str]:
    """Names of the functions in which a mutant differs; none where a module constant does."""
    before = {name: ast.dump(node) for name, node in functions(ast.parse((ROOT / one.path).read_text()))}
    return [name for name, node in functions(ast.parse(one.source)) if before.get(name) != ast.dump(node)]


def constants(source: str) -> dict[str, str]:
    """Names of module constants and their values as source."""
    found: dict[str, str] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign):
            target, value = node.targets[0], node.value
            both = zip(target.elts, value.elts) if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) else [(target, value)]
            found |= {name.id: ast.unparse(one) for name, one in both if isinstance(name, ast.Name)}
    return found
