"""The known faults of `make mutants` stand in the package as it is: a line that was rewritten is met here, not once a release."""

from __future__ import annotations

import ast

from tests.mutants.known import known
from tests.mutants.mutations import ROOT, changed, places
from tests.mutants.statements import noting, statement_at


def test_every_known_fault_has_its_line_in_the_package() -> None:
    assert len(known()) >= 10


def test_a_mutant_is_changed_within_the_statement_whose_tests_it_meets() -> None:
    path = "workbench/methods/shared/edit_size.py"
    lines = (ROOT / path).read_text().splitlines()
    mutants = [place.mutant("sample") for place in places(path, words=True)]
    assert len(mutants) > 50
    for one in mutants:
        found = statement_at(path, one.line)
        assert len(changed(one)) == (found is not None), "a constant is in no function"
        if found is None:
            continue
        statement = next(node for node in ast.walk(ast.parse("\n".join(lines))) if isinstance(node, ast.stmt) and node.lineno == found[1])
        rest = one.source.splitlines()
        assert rest[: statement.lineno - 1] == lines[: statement.lineno - 1]


def test_the_statements_of_a_function_note_themselves_as_they_are_reached() -> None:
    path, reached = "workbench/methods/shared/layers.py", set[tuple[str, int]]()
    space: dict[str, object] = {"__name__": "noted"}
    exec(compile(noting(path, reached.add), path, "exec"), space)
    assert not reached, "a module's own statements are no test's"
    alone, pairs = space["single_layers"], space["layer_pairs"]
    assert callable(alone) and callable(pairs)
    alone(12)
    assert len(reached) == 1
    pairs(12)
    assert len(reached) == 2 and {where for where, _ in reached} == {path}
