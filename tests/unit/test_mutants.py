"""The known faults of `make mutants` stand in the package as it is: a line that was rewritten is met here, not once a release."""

from __future__ import annotations

import ast

from tests.mutants.known import known
from tests.mutants.live import Live
from tests.mutants.mutations import ROOT, changed, constants, functions, places
from tests.mutants.statements import noting, statement_at


def test_every_known_fault_has_its_line_in_the_package() -> None:
    assert len(known()) >= 10


def test_a_mutant_is_changed_within_the_statement_whose_tests_it_meets() -> None:
    path = "workbench/methods/shared/edit_size.py"
    nodes = dict(functions(ast.parse((ROOT / path).read_text())))
    mutants = [place.mutant("sample") for place in places(path, words=True)]
    assert len(mutants) > 50
    for one in mutants:
        names, found = changed(one), statement_at(path, one.line)
        assert len(names) == (found is not None), "a constant is in no function"
        if found is not None:
            node = nodes[names[0]]
            assert node.lineno < found[1] <= (node.end_lineno or 0)
            assert found[1] <= one.line or one.line < node.body[0].lineno, "what stands in a function's head counts for its first statement"


def test_constants_that_are_named_in_one_line_are_known_by_their_names() -> None:
    assert constants("A, B = 16, 100\nC = f(2)") == {"A": "16", "B": "100", "C": "f(2)"}


def test_a_constant_meets_the_tests_of_modules_that_hold_its_module() -> None:
    from tests.unit import test_documented_numbers as told

    assert Live.imported("workbench/evaluate/design/space.py", vars(told))
    assert not Live.imported("workbench/evaluate/forks.py", vars(told))


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
