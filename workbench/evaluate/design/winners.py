"""The best designs on rows that no search has seen: measured once, beside random edits of their size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from workbench.data.demonstrations import Demonstrations
from workbench.edits.lane import Lane
from workbench.edits.placebo import rotated
from workbench.errors import FittedRows
from workbench.evaluate.design.bench import DesignBench
from workbench.evaluate.design.record import DesignSearch, Winner
from workbench.evaluate.fitted_rows import without_fitted
from workbench.evaluate.metrics import mean_metric
from workbench.evaluate.side_effects import side_effects
from workbench.evaluate.verdict import judged
from workbench.methods.choice import CHANCE, N_PLACEBOS
from workbench.methods.registry import Fitted
from workbench.methods.shared.validation import measured
from workbench.numerics.intervals import shortfall_interval
from workbench.numerics.selection import chance_of_best
from workbench.progress import Progress

LIMITS = (0.02, 0.1, 0.5)
"""Tails within which a winner is sought, nats a token."""


def winners_of(found: DesignSearch) -> dict[float, int]:
    """For each limit the trial of most gain within it, if its gain is beyond what the best of so many would gain by chance.

    A trial that stands under a smaller limit already is not taken again.
    """
    known = [at for at, one in enumerate(found.trials) if not one.why]
    if not known:
        return {}
    chance = dict(zip(known, chance_of_best(np.array([found.trials[at].gains for at in known]))))
    taken: dict[float, int] = {}
    for limit in LIMITS:
        within = [at for at in known if found.trials[at].tail_nats <= limit and chance[at] <= CHANCE]
        best = max(within, key=lambda at: found.values[at, 0], default=None)
        if best is not None and found.trials[best].design.key not in {found.trials[at].design.key for at in taken.values()}:
            taken[limit] = best
    return taken


def judged_once(
    bench: DesignBench, found: DesignSearch, demonstrations: Demonstrations, neutral: Sequence[str], tell: Progress
) -> DesignSearch:
    """The search with its winners on split `test`: gain by the measure of the search, damage on held-out neutral text.

    Raises:
        Cancelled, and as `Method.fit`, `side_effects`.
    """
    taken = winners_of(found)
    if not taken:
        why = f"No effect found: none gains beyond chance on {found.n_prompts} validation prompts, so no test row is read."
        return replace(found, why_none=why, is_whole=True)
    fits = [_of_whole(bench.fitted(found.trials[at].design, tell.part(0.0, 0.4)), demonstrations) for at in taken.values()]
    placed = [one.edit.scaled(found.trials[at].design.dose) for one, at in zip(fits, taken.values())]
    try:
        held = without_fitted(demonstrations, "test", placed)
    except FittedRows as error:
        return replace(found, why_none=str(error), is_whole=True)
    rows = held.rows.having("prompt", "positive", "negative")
    if not len(rows):
        return replace(found, why_none="No row of split test has both answers, so no winner is measured.", is_whole=True)
    turned = [rotated(edit, seed) for edit in placed for seed in range(N_PLACEBOS)]
    stacks = [(), *((edit,) for edit in (*placed, *turned))]
    margins = np.array([one.margins for one in measured(bench.model, stacks, rows, (), progress=tell.part(0.4, 0.8))])
    texts = side_effects(bench.model, neutral, [Lane((edit,)) for edit in placed], n_generations=0, progress=tell.part(0.8, 1.0))
    n, winners, tokens = len(placed), list[Winner](), texts.metric("kl_p95_nats")
    for i, (limit, at) in enumerate(taken.items()):
        controls = list(range(1 + n + i * N_PLACEBOS, 1 + n + (i + 1) * N_PLACEBOS))
        lanes = np.stack([margins[0], margins[1 + i], margins[controls].mean(0)])
        score = mean_metric("gain", "Gain in margin", lanes, "nats/token", "higher")
        tail = shortfall_interval(tokens.per_item[1 + i], np.asarray(tokens.texts))
        mean = texts.metric("kl_nats").values[1 + i]
        told = (score.between(1, 0), score.between(2, 0), score.between(1, 2), tail, mean, judged(score, 1, 2)[0], fits[i].edit.id)
        winners.append(Winner(limit, at, *told))
    return replace(found, winners=tuple(winners), why_none=held.why, is_whole=True, fits=tuple(fits))


def _of_whole(fitted: Fitted, demonstrations: Demonstrations) -> Fitted:
    """The fit as one of the whole set, of which it saw split `fit` and `validation` alone."""
    head = replace(fitted.edit.header, data=demonstrations.fingerprint)
    return replace(fitted, edit=replace(fitted.edit, header=head))
