"""Faults that no test noticed once, each as a line of the package and what stood in its place. They are tried at every run."""

from __future__ import annotations

from tests.mutants.mutations import ROOT, Mutant

VERDICT, SCORE, FORKS = "workbench/evaluate/verdict.py", "workbench/score.py", "workbench/forks/scores.py"
CHOICE, GATING = "workbench/methods/choice.py", "workbench/methods/shared/gating.py"

_KNOWN: tuple[tuple[str, str, str], ...] = (
    (
        VERDICT,
        "**{_value(metric, edit)}** with {what}, **{_value(metric, 0)}** without",
        "**{_value(metric, 0)}** with {what}, **{_value(metric, edit)}** without",
    ),
    (VERDICT, 'return "does harm", "**It does the opposite**', 'return "does it", "**It does the opposite**'),
    (VERDICT, 'return self.kind == "does it"', "return True"),
    (VERDICT, "ahead = metric.between(edit, placebo)", "ahead = metric.between(edit, 0)"),
    (VERDICT, "change = metric.between(edit, 0)", "change = metric.between(0, edit)"),
    (SCORE, "(base.exp() * (base - log_p))", "(log_p.exp() * (log_p - base))"),
    (FORKS, "(p * (base - log_p))", "(log_p.exp() * (log_p - base))"),
    (GATING, "torch.quantile(probe.scores(read.held_no), 1 - leak).clamp_min(0.0)", "0.0"),
    (GATING, "torch.quantile(probe.scores(read.held_no), 1 - leak)", "torch.quantile(probe.scores(read.held_no), 0.99)"),
    (CHOICE, "-round(gain / NEAR_TIE)", "-gain"),
    (CHOICE, "-round(gain / NEAR_TIE)", "0.0"),
    (CHOICE, "_beyond_chance(beside, gains, n_tried)", "beside"),
    (CHOICE, "_beyond_chance(within, margins - before, n_tried)", "within"),
    (CHOICE, "p * n_tried / len(items) <= CHANCE", "p <= CHANCE"),
)  # fmt: skip


def known() -> list[Mutant]:
    """The faults, put into the package as it is.

    Raises:
        ValueError: a line is not there, or not once; then the fault is to be written anew.
    """
    found: list[Mutant] = []
    for path, line, fault in _KNOWN:
        source = (ROOT / path).read_text()
        if source.count(line) != 1:
            raise ValueError(f"{path} has {source.count(line)} times {line!r}, needed once: write the fault anew in {__file__}.")
        found.append(Mutant("known", path, source.replace(line, fault)))
    return found
