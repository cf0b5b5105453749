"""Run a search: the initial design, then proposals until the budget, a target or the owner's patience ends it."""

from __future__ import annotations

from collections.abc import Callable

import torch

from workbench.errors import BadKnob, NotFinite, ShapeMismatch
from workbench.progress import Cancelled, Progress, silent
from workbench.search.bayes import whole_box
from workbench.search.config import SearchConfig
from workbench.search.embedding import EmbeddingProposer
from workbench.search.proposers import EvolutionProposer, Proposal, Proposer, RandomProposer, improves
from workbench.search.trials import Found, Trial, Trials
from workbench.search.trust_region import TrustRegionProposer
from workbench.shapes import Float, Tensor

Objective = Callable[[Float[Tensor, "lane dim"]], Float[Tensor, " lane"]]


def maximise(
    objective: Objective,
    config: SearchConfig,
    *,
    progress: Progress | None = None,
    resume: Trials | None = None,
    record: Callable[[Trials], None] | None = None,
) -> Found:
    """Maximise `objective` over the unit cube and return every trial.

    The identity, where the config includes it, is the first call, so the best value is never below the unedited one. Proposals depend on
    nothing but the config and the trials so far: resuming from recorded trials equals an uninterrupted search.

    Args:
        objective: values of (lane, dim) float64 points; lanes are `config.lanes` candidates to be evaluated at once.
        config: box, optimiser, budget and seed.
        progress: told after every batch, with the live values `values`, `best` and `region`.
        resume: recorded trials of the same search; an incomplete last batch is evaluated again.
        record: called with all trials after every batch, to save them.

    Raises:
        Cancelled: with `best` = Found(trials so far, "cancelled").
        NotFinite: the objective returned NaN or infinity.
    """
    progress = progress or silent()
    trials = _resumed(config, resume)
    proposer = proposer_of(config)
    design = proposer.design()
    try:
        while True:
            stop = _stopped(config, trials)
            if stop is not None:
                return Found(trials, stop)
            progress(len(trials) / config.budget, "searching", **_live(trials))
            proposal = _next(config, design, proposer, trials)
            trials = told(config, trials, proposal, objective(proposal.points))
            if record is not None:
                record(trials)
    except Cancelled as stop:
        raise Cancelled(Found(trials, "cancelled")) from stop


def proposer_of(config: SearchConfig) -> Proposer:
    """Return the optimiser that the config names."""
    match config.chosen:
        case "random":
            return RandomProposer(config)
        case "es":
            return EvolutionProposer(config)
        case "turbo":
            return TrustRegionProposer(config)
        case "embedding":
            return EmbeddingProposer(config)
        case _:
            return whole_box(config)


def ask(config: SearchConfig, trials: Trials) -> Proposal:
    """Return the candidates that follow `trials`: the ask of an ask-and-tell loop."""
    proposer = proposer_of(config)
    return _next(config, proposer.design(), proposer, trials)


def told(config: SearchConfig, trials: Trials, proposal: Proposal, values: Tensor) -> Trials:
    """Return the trials with the values of `proposal`: the tell of an ask-and-tell loop.

    Raises:
        ShapeMismatch: not one value a point. NotFinite: NaN or infinite values.
    """
    if values.shape != (len(proposal.points),):
        raise ShapeMismatch(
            f"The objective returned values of shape {tuple(values.shape)} for {len(proposal.points)} points.",
            "Return one value per point.",
        )
    if not bool(values.isfinite().all()):
        raise NotFinite(f"The objective returned {values.tolist()}.", "Look for NaN or infinite activations at the points that were asked.")
    before = trials.best.value if len(trials) else None
    success = before is not None and improves(float(values.max()), before)
    best, rows = before, list(trials.rows)
    batch = trials.rows[-1].batch + 1 if len(trials) else 0
    for lane, (point, value) in enumerate(zip(proposal.points, values.tolist())):
        best = value if best is None else max(best, value)
        rows.append(
            Trial(
                index=len(rows),
                batch=batch,
                stage=_stage(config, len(rows), proposal.stage),
                point=point.detach().clone(),
                value=value,
                best=best,
                noise=proposal.noise,
                lengthscale=proposal.lengthscale,
                region=proposal.region,
                success=success,
                uninformative=proposal.uninformative,
                **_forecast(proposal, lane),
            )
        )
    return Trials(tuple(rows))


def _next(config: SearchConfig, design: Tensor, proposer: Proposer, trials: Trials) -> Proposal:
    done = len(trials)
    if done < len(design):
        return Proposal(design[done : done + config.lanes], stage="initial")
    lanes = min(config.lanes, config.budget - done)
    return proposer.propose(trials, lanes)


def _forecast(proposal: Proposal, lane: int) -> dict[str, float]:
    if not proposal.predicted:
        return {}
    return {"predicted": proposal.predicted[lane], "predicted_sd": proposal.predicted_sd[lane]}


def _stage(config: SearchConfig, index: int, proposed: str) -> str:
    return "identity" if index == 0 and config.include_identity else proposed


def _stopped(config: SearchConfig, trials: Trials) -> str | None:
    if len(trials) >= config.budget:
        return "budget"
    if not len(trials):
        return None
    if config.target is not None and trials.best.value >= config.target:
        return "target"
    if config.patience is not None:
        since = len(trials) - 1 - trials.best.index
        if len(trials) > config.initial_calls and since >= config.patience:
            return "patience"
    return None


def _live(trials: Trials) -> dict[str, object]:
    if not len(trials):
        return {}
    last = trials.rows[-1]
    return {"value": last.value, "best": last.best, "call": len(trials), "region": last.region, "uninformative": last.uninformative}


def _resumed(config: SearchConfig, resume: Trials | None) -> Trials:
    """Return the whole batches of recorded trials, after checking that this config would have started with the same points."""
    if resume is None or not len(resume):
        return Trials()
    points = resume.points
    first = ask(config, Trials()).points[:1]
    if points.shape[1] != config.dim or not torch.equal(points[:1], first):
        raise BadKnob(
            f"The recorded trials ({points.shape[1]} coordinates) do not begin as this search does ({config.dim} coordinates, "
            f"seed {config.seed}).",
            "Resume with the knobs and the seed that the trials were recorded with, or start again without them.",
        )
    rows = list(resume.rows[: config.budget])
    last = [row for row in rows if row.batch == rows[-1].batch]
    start = last[0].index
    bound = config.initial_calls if start < config.initial_calls else config.budget
    if len(last) < min(config.lanes, bound - start):
        rows = rows[:start]
    return Trials(tuple(rows))
