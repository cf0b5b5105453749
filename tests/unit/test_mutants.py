"""The known faults of `make mutants` stand in the package as it is: a line that was rewritten is met here, not once a release."""

from __future__ import annotations

from tests.mutants.known import known


def test_every_known_fault_has_its_line_in_the_package() -> None:
    assert len(known()) >= 10
