"""Try mutants: `python -m tests.mutants`. Words of the verdict and intervals whole, the other modules by a seeded sample.

Prints how many were killed, and the diff of each that survives. Exits with 1 where a known fault or a mutant of the words or the intervals
survives, or where fewer than 90 % of the sample are killed.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections import Counter

import pytest

from tests.mutants.known import known
from tests.mutants.mutations import ROOT, Mutant, places
from tests.mutants.workers import Tried, Workers

WHOLE = ("workbench/evaluate/verdict.py", "workbench/numerics/intervals.py")
SAMPLED = ("workbench/evaluate", "workbench/methods/choice.py", "workbench/methods/shared")
TESTS = (
    "tests/unit/test_adapters.py", "tests/unit/test_are_concept.py", "tests/unit/test_branches.py", "tests/unit/test_budget.py",
    "tests/unit/test_canonical_rows.py", "tests/unit/test_choice.py", "tests/unit/test_concept_meter.py", "tests/unit/test_damage.py",
    "tests/unit/test_design.py", "tests/unit/test_divergences.py", "tests/unit/test_documented_numbers.py",
    "tests/unit/test_dose_limits.py", "tests/unit/test_dose_plane.py", "tests/unit/test_drawn.py", "tests/unit/test_edit_form.py",
    "tests/unit/test_edit_size.py", "tests/unit/test_edits_of_heads.py", "tests/unit/test_enough.py", "tests/unit/test_epochs.py",
    "tests/unit/test_equal_damage.py", "tests/unit/test_evaluate_controls.py", "tests/unit/test_evaluate_intervals.py",
    "tests/unit/test_evaluate_scores.py", "tests/unit/test_evidence.py", "tests/unit/test_fitted_rows.py", "tests/unit/test_foretold.py",
    "tests/unit/test_forks.py", "tests/unit/test_frozen_attention.py", "tests/unit/test_gating.py", "tests/unit/test_harmless.py",
    "tests/unit/test_held_apart.py", "tests/unit/test_influence.py", "tests/unit/test_lane.py", "tests/unit/test_lens_senses.py",
    "tests/unit/test_locate.py", "tests/unit/test_moved.py", "tests/unit/test_off_target.py", "tests/unit/test_parts.py",
    "tests/unit/test_place_map.py", "tests/unit/test_placements.py",
    "tests/unit/test_prompting.py", "tests/unit/test_read_knob.py", "tests/unit/test_rivals.py", "tests/unit/test_sea_sides.py",
    "tests/unit/test_shared.py", "tests/unit/test_shortfall.py", "tests/unit/test_side_scores.py",
    "tests/unit/test_standardised_interval.py", "tests/unit/test_starts.py", "tests/unit/test_strength.py", "tests/unit/test_thinking.py",
    "tests/unit/test_two_sets.py", "tests/unit/test_validation.py", "tests/unit/test_verdict.py", "tests/unit/test_watch.py",
    "tests/theory/test_angular.py", "tests/theory/test_are.py", "tests/theory/test_are_rounds.py",
    "tests/theory/test_canonical_ensemble.py", "tests/theory/test_canonical_invariants.py", "tests/theory/test_canonical_protocol.py",
    "tests/theory/test_canonical_switches.py", "tests/theory/test_direction.py", "tests/theory/test_hpr_model.py",
    "tests/theory/test_released_presets.py", "tests/theory/test_sea_model.py", "tests/contract/test_engine_backpack.py",
    "tests/contract/test_sparing.py",
)  # fmt: skip
ENOUGH = 0.9


def main() -> int:
    """Try the mutants and say what came of them."""
    given, started = _arguments(), time.monotonic()
    whole = given.only or WHOLE
    mutants = [] if given.only else known()
    for path in whole:
        mutants += [place.mutant("whole") for place in places(path, words=True)]
    if not given.only:
        mutants += _sample(given.sample, given.seed)
    say(f"Mutants: {dict(Counter(one.group for one in mutants))}; whole: {', '.join(whole)}; seed {given.seed}.")
    workers = Workers(mutants, given.workers, 60.0 * given.minutes, say)
    code = pytest.main(["-q", "-s", "-n", "0", "-m", "not slow", *(given.tests or TESTS)], plugins=[workers])
    used = os.times()
    say(f"{sum(used[:4]):.0f} s of processor, {time.monotonic() - started:.0f} s by the clock.")
    return int(code) or told(workers.tried)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", help="modules to try whole, instead of all")
    parser.add_argument("--tests", nargs="*", help="tests to run, instead of those that belong to the modules")
    parser.add_argument("--sample", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=25.0, help="after which no further mutant is begun")
    return parser.parse_args()


def _sample(n: int, seed: int) -> list[Mutant]:
    files = [file for name in SAMPLED for file in ([ROOT / name] if name.endswith(".py") else sorted((ROOT / name).rglob("*.py")))]
    paths = [path for file in files if (path := str(file.relative_to(ROOT))) not in WHOLE]
    pool = [place for path in paths for place in places(path, words=False)]
    say(f"{len(pool)} places in {len(paths)} modules to sample from.")
    return [place.mutant("sample") for place in random.Random(seed).sample(pool, min(n, len(pool)))]


def told(tried: list[Tried]) -> int:
    """Say the counts and every survivor; 0 if enough were killed."""
    failed = 0
    for group in ("known", "whole", "sample"):
        mine = [one for one in tried if one.mutant.group == group and one.outcome != "unusable"]
        killed = sum(one.outcome.startswith("killed") for one in mine)
        counts = Counter(one.outcome for one in tried if one.mutant.group == group)
        if mine:
            say(f"{group}: {killed} of {len(mine)} killed ({killed / len(mine):.1%}); {dict(counts)}")
            failed |= killed < len(mine) * (ENOUGH if group == "sample" else 1.0)
    return int(failed)


def say(text: str) -> None:
    """Write a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
