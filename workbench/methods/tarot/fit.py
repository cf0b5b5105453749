"""TaRot: rotate the outputs of attention heads by fixed angles, found without gradients on a handful of labelled prompts.

The network is frozen. In every edited (layer, head) the attention-weighted sum of values z becomes z R, the same R at every position and
for every prompt; the angles maximise the mean probability of the right answer over a few
dozen prompts (the paper: 10-20). R folds exactly into the output
projection. Ref: docs/methods/tarot.md; Singh et al., arXiv 2410.04277. Differs: the search really optimises (the released one draws uniform
points), the identity is the first candidate, demonstrations are drawn once, validation rows choose among the best, and all layers turn
unless told otherwise: on both tasks of the embedded world that gets more prompts right than the paper's first fifth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from workbench.data.demonstrations import Demonstrations
from workbench.errors import BadKnob, FitFailed, NotEnoughData, RetouchError
from workbench.methods.registry import FitReport, Fitted, header, method
from workbench.methods.shared.needs import Needs, Obstacle
from workbench.methods.tarot.config import (
    PRESETS,
    TAROT_PRESETS_SAY,
    TURNS,
    TarotConfig,
    angle_space,
    edited_layers,
    listed_heads,
    narrowed,
    scoped,
    search_config,
)
from workbench.methods.tarot.edit import RotationEdit, fold_facts, value_bias
from workbench.methods.tarot.generation import classifier_of
from workbench.methods.tarot.heads import HeadEvidence, rank_heads
from workbench.methods.tarot.objective import AngleObjective, generation_objective
from workbench.methods.tarot.report import HeadSelection, report, stopped_report
from workbench.methods.tarot.task import Chosen, Task, chosen_rows, label_of, labels_of, task_of
from workbench.models.base import LanguageModel
from workbench.models.token_texts import first_token
from workbench.numerics.rotations import AngleSpace, angle_count
from workbench.progress import Cancelled, Progress
from workbench.search import Found, Trials, maximise
from workbench.shapes import Float, Tensor


def obstacles(model: LanguageModel, demonstrations: Demonstrations) -> tuple[Obstacle, ...]:
    """Return why TaRot cannot run: rows without an answer, labels that begin with the same token, an odd head width."""
    rows = demonstrations.split("fit")
    lacking = sum(not (row.label or row.positive) for row in rows)
    if lacking:
        return (Obstacle(f"{lacking} of {len(rows)} demonstrations to fit have neither label nor positive.", "Fill the column label."),)
    found: list[Obstacle] = []
    labels = labels_of(demonstrations)
    firsts: dict[int, list[str]] = {}
    try:
        for label in labels:
            firsts.setdefault(first_token(model, label), []).append(label)
        angle_count("rotary", model.info.d_head)
    except RetouchError as error:
        return (Obstacle(str(error), error.hint),)
    classes = all(row.label for row in rows)
    for same in firsts.values():
        if classes and len(same) > 1:
            found.append(Obstacle(f"The labels {same} begin with the same token.", "Rename them so that their first tokens differ."))
    return tuple(found)


def proceed(
    model: LanguageModel, demonstrations: Demonstrations, config: TarotConfig, report: FitReport, *, seed: int, progress: Progress
) -> Fitted:
    """Go on with the search whose trials a report holds, until `config.budget` calls were made in all.

    Raises:
        BadKnob: the budget is used up already. ShapeMismatch: the report is of another search.
    """
    trials = Trials.from_tensors({name: torch.from_numpy(report.arrays[name]) for name in ("points", "scalars")})
    if config.budget <= len(trials):
        raise BadKnob(f"budget = {config.budget}; {len(trials)} calls were made already.", f"Give a budget above {len(trials)}.")
    return fit_rotation(model, demonstrations, config, seed=seed, progress=progress, resume=trials)


@method(
    "tarot",
    title="TaRot",
    summary="Turn attention heads by fixed angles, found by a search on a few dozen labelled prompts: task adaptation without training.",
    paper="arXiv 2410.04277",
    config=TarotConfig,
    edit=RotationEdit,
    needs=Needs(("prompt",), "label", min_rows=4, heads=True, sites=("head_z",)),
    presets=PRESETS,
    preset_says=TAROT_PRESETS_SAY,
    obstacles=obstacles,
    proceed=proceed,
    scopes=scoped,
    holds=TURNS,
    alone={"select_on": "train"},
    order=4,
    cost="each fit is a search of its own: about a minute",
)
def fit(model: LanguageModel, demonstrations: Demonstrations, config: TarotConfig, *, seed: int, progress: Progress) -> Fitted:
    """Search angles on rows of split `fit`; rows of split `validation` choose among the best; `test` is never seen.

    Raises:
        BadKnob: layers, heads or a width that do not go together. Others: as `fit_rotation`.
    """
    return fit_rotation(model, demonstrations, config, seed=seed, progress=progress)


def fit_rotation(
    model: LanguageModel,
    demonstrations: Demonstrations,
    config: TarotConfig,
    *,
    seed: int,
    progress: Progress,
    resume: Trials | None = None,
    record: Callable[[Trials], None] | None = None,
) -> Fitted:
    """As the method `tarot`, and continue from recorded trials, or record them batch by batch.

    Raises:
        Cancelled: with the best so far as a `Fitted`.
        NotEnoughData: no rows to train on, or none of split `validation` to choose on.
        FitFailed: under the best angles every prompt gets the same answer, and did not before.
    """
    config = narrowed(config, model.info)
    progress(0.0, "Choosing demonstrations")
    chosen = chosen_rows(model, demonstrations, config, seed)
    if config.select_on == "val" and not chosen.validation:
        raise NotEnoughData("There are no rows of split validation to choose on.", "Mark some, or set select_on = train.")
    work = _Work(model, demonstrations, config, seed, chosen)
    asked = search_config(config, work.space, seed)
    objective = work.objective(0 if resume is None else len(resume))
    found: Found | None = None
    try:
        found = maximise(objective, asked, progress=progress.part(0.05, 0.95), resume=resume, record=record)
        progress(0.95, "Choosing among the best on validation")
    except Cancelled as stop:
        so_far = found or stop.best
        if isinstance(so_far, Found) and len(so_far.trials):
            raise Cancelled(work.so_far(Found(so_far.trials, "cancelled"))) from stop
        raise
    fitted = work.fitted(found, config)
    if word := constant_answer(fitted.report.tables.get("confusion", ())):
        raise FitFailed(
            f"No effect found: under the best angles the model answers {word!r} to everything, as it did not before. "
            "Nothing is handed back.",
            "Balance the labels, raise n_train, or turn fewer heads (top_heads).",
        )
    return fitted


def constant_answer(confusion: Sequence[Mapping[str, Any]]) -> str | None:
    """The one answer that the edited model gives to prompts of several labels, where the unedited model gives several; else None."""
    before, after = ({row["answer"] for row in confusion if row["when"] == when} for when in ("before", "after"))
    several = len({row["label"] for row in confusion}) > 1
    return str(next(iter(after))) if several and len(after) == 1 < len(before) else None


class _Work:
    """What one fit computes once: rows, tasks, the space of angles, value biases."""

    def __init__(self, model: LanguageModel, demonstrations: Demonstrations, config: TarotConfig, seed: int, chosen: Chosen) -> None:
        self.model, self.demonstrations, self.config, self.seed, self.chosen = model, demonstrations, config, seed, chosen
        self.labels = labels_of(demonstrations)
        self.train_task = self._task(chosen.train, seed)
        self.evidence = self._evidence()
        heads = listed_heads(config, model.info) if self.evidence is None else self.evidence.top(config.top_heads or 1)
        self.space: AngleSpace = angle_space(config, model, heads)
        self.held = self._held()
        self.train = AngleObjective(model, self.space, config, self.train_task, self.held)
        self.validation = None
        if chosen.validation:
            self.validation = AngleObjective(model, self.space, config, self._task(chosen.validation, seed + 1), self.held)

    def objective(self, calls_done: int) -> Callable[[Tensor], Tensor]:
        """Return what the search maximises."""
        if self.config.objective == "generated":
            prompts = [row.prompt for row in self.chosen.train]
            reward = classifier_of(self.demonstrations.split("fit").rows)
            return generation_objective(self.model, prompts, reward, self.edit, self.config.new_tokens)
        if self.config.compat.resample_shots:
            redraw: Callable[[int], Task] = lambda call: self._task(self.chosen.train, self.seed + 1 + call)  # noqa: E731
            return AngleObjective(self.model, self.space, self.config, self.train_task, self.held, redraw=redraw, calls_done=calls_done)
        return self.train

    def edit(self, point: Float[Tensor, " dim"]) -> RotationEdit:
        """Return the edit of a point of the unit cube."""
        space, config = self.space, self.config
        facts: dict[str, Any] = {
            "layers": list(space.layers),
            "variant": space.variant,
            "width": space.width,
            "bound": space.bound,
            "value_bias": config.compat.value_bias,
            "heads": None if space.heads is None else [list(pair) for pair in space.heads],
            **fold_facts(self.model, space.layers, space.variant),
        }
        head = header("tarot", self.model, self.demonstrations, config, self.seed, facts)
        return RotationEdit(head, space.angles(point.double()), self.held)

    def fitted(self, found: Found, config: TarotConfig) -> Fitted:
        """Choose among the best trials and report."""
        selection = self._selected(found, config)
        edit = self.edit(selection.point)
        told = report(self.model, config, edit, found, selection, self.chosen, self.train, self.validation, self.evidence)
        return Fitted(edit, told)

    def so_far(self, found: Found) -> Fitted:
        """The best of a search that was stopped, as the search valued it: nothing more is run."""
        edit = self.edit(found.trials.best.point)
        return Fitted(edit, stopped_report(edit, found, self.space))

    def _selected(self, found: Found, config: TarotConfig) -> HeadSelection:
        """Return the best by validation accuracy; ties by mean p, then by the smaller turn. Ref: docs/methods/tarot.md §3.7."""
        trials = found.trials
        top = trials.top(config.n_top)
        identity = torch.full((self.space.dim,), self.space.identity, dtype=torch.float64)
        points = torch.stack([*(row.point for row in top), identity])
        indices = (*(row.index for row in top), 0 if search_config(config, self.space, self.seed).include_identity else -1)
        scored = self.train if config.select_on == "train" or self.validation is None else self.validation
        said = scored.answers(points)
        accuracy, probability = said.right.mean(-1).tolist(), said.p.mean(-1).tolist()
        moved = self.space.angles(points) - self.space.angles(identity)
        size = moved.square().mean((-1, -2, -3)).sqrt().tolist()
        if config.select_on == "train":
            best = 0
        else:
            best = max(range(len(points)), key=lambda k: (accuracy[k], probability[k], -size[k]))
        return HeadSelection(points, indices, tuple(accuracy), tuple(probability), tuple(size), best, config.select_on)

    def _task(self, rows: Any, seed: int) -> Task:
        return task_of(self.model, self.config, rows, self.chosen.pool, self.labels, seed, self.chosen.answered)

    def _evidence(self) -> HeadEvidence | None:
        if self.config.top_heads is None:
            return None
        if self.config.heads is not None:
            raise BadKnob("Both heads and top_heads are set.", "List heads, or let evidence choose them.")
        info = self.model.info
        layers = range(info.n_layers) if self.config.layers is None else edited_layers(self.config, info)
        return rank_heads(self.model, self.train_task, self.config, tuple(layers))

    def _held(self) -> Tensor | None:
        if self.config.compat.value_bias == "included" or self.space.variant == "mlp":
            return None
        biases = [value_bias(self.model, layer) for layer in self.space.layers]
        found = [bias for bias in biases if bias is not None]
        return torch.stack(found) if len(found) == len(biases) else None


__all__ = ["RotationEdit", "TarotConfig", "fit", "fit_rotation", "label_of"]
