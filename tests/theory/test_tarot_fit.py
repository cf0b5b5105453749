"""What the search for angles promises: its objective, its rows, its report. Invariants of docs/methods/tarot.md §6, each with what must
fail."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.conftest import words
from tests.rotations import CLOSE, HELD, config, edit_of, labelled, logits
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.edits.engine import applied
from workbench.errors import BadKnob, NotEnoughData
from workbench.methods import get
from workbench.methods.registry import Fitted
from workbench.methods.tarot import heads
from workbench.methods.tarot.config import TarotConfig, angle_space, narrowed
from workbench.methods.tarot.fit import constant_answer, fit_rotation
from workbench.methods.tarot.generation import WordClassifier
from workbench.methods.tarot.heads import rank_heads
from workbench.methods.tarot.objective import AngleObjective, by_length, generation_objective, scores
from workbench.methods.tarot.report import random_turns
from workbench.methods.tarot.task import Task, beginnings, chosen_rows, label_of, labels_of, task_of
from workbench.models.base import LanguageModel
from workbench.models.tokens import TokenBatch
from workbench.numerics.rotations import AngleSpace
from workbench.progress import Cancelled, Progress, silent
from workbench.search import Trials


def fitted(model: LanguageModel, seed: int = 0, **more: Any) -> Fitted:
    return fit_rotation(model, labelled(), config(**more), seed=seed, progress=silent())


def task(model: LanguageModel, n: int = 6, shots: str = "mix", seed: int = 0) -> Task:
    rows = labelled()
    return task_of(model, config(shots=shots), rows.split("fit").rows[:n], rows.split("fit").rows[20:30], labels_of(rows), seed)


def objective_of(model: LanguageModel, the_task: Task, keeps_prefix: bool = True, **more: Any) -> AngleObjective:
    knobs = config(**more)
    return AngleObjective(model, angle_space(knobs, model, None), knobs, the_task, keeps_prefix=keeps_prefix)


@pytest.mark.parametrize("name", ["prob", "accuracy", "margin", "logit_gain", "rank", "loglik"])
def test_lanes_equal_one_by_one_and_edits_of_the_engine(tiny: LanguageModel, name: str) -> None:
    objective = objective_of(tiny, task(tiny), objective=name, answers="vocabulary")
    points = torch.rand(3, objective.space.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    together = objective.per_prompt(points)
    alone = torch.cat([objective.per_prompt(point[None]) for point in points])
    torch.testing.assert_close(together, alone, atol=CLOSE, rtol=0)
    if name == "loglik":
        from workbench.score import batch_scores

        edit = edit_of(tiny, objective.space, objective.space.angles(points[1]))
        by_engine = batch_scores(tiny, objective.task.whole, [(edit,)]).total[0].double()
    else:
        edit = edit_of(tiny, objective.space, objective.space.angles(points[1]))
        batch = objective.task.prompts
        with torch.no_grad(), applied(tiny, edit):
            by_engine = scores(objective.task, tiny.logits(batch)[None, :, -1], name, "vocabulary")[0].double()
    torch.testing.assert_close(together[1], by_engine, atol=CLOSE, rtol=0)


def test_prompts_run_with_those_of_their_length_and_in_the_order_given() -> None:
    lengths = torch.tensor([60, 10, 14, 61, 15, 16, 9])
    groups = [group.tolist() for group in by_length(lengths)]
    assert groups == [[6, 1], [2, 4, 5], [0, 3]]
    batch = TokenBatch.of([[1] * n for n in lengths.tolist()], None).rows(torch.tensor(groups[0])).trimmed()
    assert batch.ids.shape == (2, 10) and batch.lengths.tolist() == [9, 10]


@pytest.mark.parametrize("name", ["prob", "loglik"])
@pytest.mark.parametrize("shots", ["zero", "mix"])
def test_the_prefix_equals_the_whole_network_and_skips_the_lower_blocks(tiny: LanguageModel, name: str, shots: str) -> None:
    the_task = task(tiny, shots=shots)
    ran: list[int] = []
    with_prefix = objective_of(tiny, the_task, layers=(2,), objective=name)
    without = objective_of(tiny, the_task, keeps_prefix=False, layers=(2,), objective=name)
    points = torch.rand(2, with_prefix.space.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    base, hooks = logits(tiny), tiny.hook_count()
    torch.testing.assert_close(with_prefix.per_prompt(points), without.per_prompt(points), atol=CLOSE, rtol=0)
    with tiny.intercept("head_z@0", lambda x: ran.append(1)):
        with_prefix.per_prompt(points)
        assert not ran
        without.per_prompt(points)
        assert ran
    assert torch.equal(logits(tiny), base)
    assert tiny.hook_count() == hooks


def test_demonstrations_that_several_prompts_show_run_once_a_candidate(tiny: LanguageModel) -> None:
    def tokens_run(the_task: Task, keeps_prefix: bool) -> int:
        objective, ran = objective_of(tiny, the_task, keeps_prefix, layers=(1, 2)), [0]
        point = torch.rand(1, objective.space.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        objective.per_prompt(point)

        def count(x: Tensor) -> None:
            ran[0] += x.shape[0] * x.shape[1]

        with tiny.intercept("head_z@2", count):
            objective.per_prompt(point)
        return ran[0]

    shown, alone = task(tiny, 12, "six"), task(tiny, 12, "zero")
    longest, whole = max(map(len, alone.prompts.real_ids)), int(shown.prompts.lengths.sum())
    assert tokens_run(shown, True) <= int(shown.prompts.lengths.max()) + 12 * (longest + 1) < whole / 2
    assert tokens_run(shown, False) >= whole
    assert tokens_run(alone, True) == alone.prompts.ids.numel(), "prompts that show nothing run as they are"


def test_a_beginning_is_what_all_behind_as_many_demonstrations_have_in_common(tiny_gpt2: LanguageModel) -> None:
    the_task = task(tiny_gpt2, 12)
    prompts, found = the_task.prompts.real_ids, beginnings(the_task)
    assert set(the_task.shown) == {0, 2, 4, 6}
    for i, (ids, n) in enumerate(zip(prompts, found)):
        others = [prompts[j] for j, shown in enumerate(the_task.shown) if shown == the_task.shown[i]]
        assert all(other[:n] == ids[:n] for other in others) if n < len(ids) else not the_task.shown[i] or len(others) == 1
    assert beginnings(replace(the_task, shown=tuple(range(12)))) == list(map(len, prompts)), "what stands alone has nothing in common"
    twins = replace(the_task, prompts=the_task.prompts.rows(torch.tensor([0] * 12)), shown=(2,) * 12)
    assert beginnings(twins) == [len(prompts[0])] * 12, "a prompt's last token is always read"


def test_the_objective_repeats_exactly_and_flattens_as_the_bound_closes(tiny_gpt2: LanguageModel) -> None:
    the_task = task(tiny_gpt2)
    points = torch.rand(4, 2 * 4 * 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    spreads = []
    for bound in (0.5, 1e-4):
        objective = objective_of(tiny_gpt2, the_task, bound=bound, objective="margin")
        values = objective(points)
        assert torch.equal(values, objective(points))
        spreads.append(float(values.std()))
    assert spreads[1] < 1e-3 * spreads[0] + 1e-6
    redrawn = AngleObjective(
        tiny_gpt2, objective.space, config(objective="margin"), the_task, redraw=lambda call: task(tiny_gpt2, seed=call)
    )
    assert float(redrawn(points[:1])) != float(redrawn(points[:1]))


def test_scores_mean_what_they_say() -> None:
    values = torch.tensor([[[0.0, 2.0, 1.0, -1.0]]])
    batch = TokenBatch.of([[0]], None)
    the_task = Task((), batch, batch, torch.tensor([2]), torch.tensor([[2, 3, -1]]), torch.tensor([0.25]), (0,))
    got = {name: float(scores(the_task, values, name, "vocabulary")) for name in ("prob", "accuracy", "margin", "logit_gain", "rank")}
    assert got["prob"] == pytest.approx(math.exp(1) / (1 + math.exp(2) + math.exp(1) + math.exp(-1)), abs=1e-6)
    assert (got["accuracy"], got["margin"], got["logit_gain"], got["rank"]) == (0.0, -1.0, 0.75, -1.0)
    among = {name: float(scores(the_task, values, name, "labels")) for name in ("prob", "accuracy", "margin", "rank")}
    assert among["prob"] == pytest.approx(1 / (1 + math.exp(-2)), abs=1e-6)
    assert (among["accuracy"], among["margin"], among["rank"]) == (1.0, 2.0, 0.0)


def test_rows_are_balanced_and_disjoint_and_test_rows_are_never_seen(tiny_gpt2: LanguageModel) -> None:
    rows = labelled()
    chosen = chosen_rows(tiny_gpt2, rows, config(n_train=12), 0)
    sets = [set(chosen.train), set(chosen.pool), set(chosen.validation), set(rows.split("test").rows)]
    assert sum(len(s) for s in sets) == len(set.union(*sets))
    assert chosen.n_right <= 6 >= chosen.n_wrong
    assert len(chosen.train) == chosen.n_right + chosen.n_wrong
    zero = task_of(tiny_gpt2, config(shots="zero"), chosen.train, (), labels_of(rows), 0)
    right = [row in chosen.answered for row in zero.rows]
    assert right == [True] * chosen.n_right + [False] * chosen.n_wrong
    assert chosen_rows(tiny_gpt2, rows, config(n_train=12), 1).train != chosen.train


def test_a_shortage_is_reported(tiny_gpt2: LanguageModel) -> None:
    one_sided = chosen_rows(tiny_gpt2, labelled(), config(n_train=12), 0)
    only_wrong = Demonstrations(tuple(row for row in labelled() if row.split != "fit" or row not in one_sided.answered))
    fit = fit_rotation(tiny_gpt2, only_wrong, config(n_train=12), seed=0, progress=silent())
    assert fit.report.scalars["n_right_before"] == 0
    assert any("right" in notice.text for notice in fit.report.notices)


def test_prompts_carry_their_demonstrations_and_one_start_token(tiny_gpt2: LanguageModel) -> None:
    rows = labelled().split("fit").rows
    counts = task_of(tiny_gpt2, config(shots="six"), rows[:3], rows[10:20], labels_of(labelled()), 0).prompts.lengths
    shown = sum(len(row.prompt.split()) + 1 for row in rows[10:16])
    assert counts.tolist() == [shown + len(row.prompt.split()) for row in rows[:3]]
    mixed = [task_of(tiny_gpt2, config(), rows[:9], rows[10:20], labels_of(labelled()), seed).prompts for seed in (0, 0, 1)]
    assert torch.equal(mixed[0].ids, mixed[1].ids)
    assert mixed[0].lengths.tolist() != mixed[2].lengths.tolist()


def test_a_fit_reports_selects_on_validation_and_repeats(tiny_gpt2: LanguageModel) -> None:
    first, again = fitted(tiny_gpt2), fitted(tiny_gpt2)
    assert first.edit.id == again.edit.id
    finalists = first.report.tables["finalists"]
    best = max(finalists, key=lambda row: (row["accuracy"], row["mean_p"], -row["rms_rad"]))
    assert best["chosen"]
    assert sum(row["chosen"] for row in finalists) == 1
    assert first.report.scalars["validation_accuracy_after"] >= first.report.scalars["validation_accuracy_before"]
    assert first.report.scalars["best_objective"] >= first.report.scalars["first_objective"]
    assert len(first.report.tables["trials"]) == 12
    assert fitted(tiny_gpt2, seed=1).edit.id != first.edit.id


def test_a_report_tells_how_far_a_random_point_of_the_box_turns_the_heads() -> None:
    space = AngleSpace("rotary", (1, 2), 4, 8, bound=0.5, heads=((1, 0), (2, 3), (2, 1)))
    turns = random_turns(space)
    assert len(turns) == 3 and (np.diff(turns) < 0).all(), "only heads that may turn, the farthest first"
    # Uniform in [-b, b] has the root mean square b/√3; over four angles a head it is a little less in the mean.
    assert turns.mean() == pytest.approx(0.5 / 3**0.5, rel=0.1) and turns.max() < 0.5
    assert random_turns(replace(space, bound=0.1)).max() < 0.1


def test_a_fit_resumes_from_its_trials(tiny_gpt2: LanguageModel) -> None:
    kept: list[Trials] = []
    whole = fit_rotation(tiny_gpt2, labelled(), config(), seed=0, progress=silent(), record=kept.append)
    half = Trials.from_tensors(kept[1].tensors())
    again = fit_rotation(tiny_gpt2, labelled(), config(), seed=0, progress=silent(), resume=half)
    assert again.edit.id == whole.edit.id
    assert [row["value"] for row in again.report.tables["trials"]] == [row["value"] for row in whole.report.tables["trials"]]


def test_cancelling_hands_back_the_best_so_far(tiny_gpt2: LanguageModel) -> None:
    progress = Progress(lambda report: progress.cancel() if report.share > 0.5 else None)
    with pytest.raises(Cancelled) as caught:
        fit_rotation(tiny_gpt2, labelled(), config(), seed=0, progress=progress)
    assert isinstance(caught.value.best, Fitted)
    assert any("cancelled" in notice.text for notice in caught.value.best.report.notices)


@pytest.mark.parametrize("more", [{"variant": "givens"}, {"variant": "scale"}, {"variant": "mlp"}, {"tie": "head"}, {"value_bias": HELD},
                                  {"resample_shots": True}, {"top_heads": 2, "layers": None}, {"heads": ("0.1", "2.3"), "layers": None},
                                  {"objective": "loglik"}, {"optimizer": "auto"}, {"optimizer": "auto", "tie": "head", "layers": (1,)},
                                  {"optimizer": "embedding", "embedding_dim": 3}])  # fmt: skip
def test_every_variant_fits_and_never_falls_below_the_identity(tiny_models: dict[str, Any], more: dict[str, Any]) -> None:
    fit = fitted(tiny_models["qwen2"], **more)
    assert fit.report.scalars["best_objective"] >= fit.report.scalars["first_objective"]
    if "top_heads" in more or "heads" in more:
        assert int((fit.edit.angles.abs().sum(-1) > 0).sum()) <= 2  # type: ignore[attr-defined]


def test_evidence_finds_the_head_that_the_answer_hangs_on(tiny_gpt2: LanguageModel) -> None:
    the_task = task(tiny_gpt2, shots="zero")
    kinds = {kind: rank_heads(tiny_gpt2, the_task, config(rank_by=kind), (0, 1, 2)) for kind in ("ablation", "attribution")}
    assert all(bool((found.relevance > 0).all()) for found in kinds.values())
    d_head, dead = tiny_gpt2.info.d_head, slice(2 * tiny_gpt2.info.d_head, 3 * tiny_gpt2.info.d_head)

    def silence(x: Tensor) -> Tensor:
        y = x.clone()
        y[..., dead] = 0.0
        return y

    with tiny_gpt2.intercept("head_z@1", silence):
        for kind in kinds:
            relevance = rank_heads(tiny_gpt2, the_task, config(rank_by=kind), (0, 1, 2)).relevance
            assert float(relevance[1, 2]) == 0.0
            assert (1, 2) not in rank_heads(tiny_gpt2, the_task, config(rank_by=kind), (0, 1, 2)).top(8)
    assert d_head == 8


@pytest.mark.parametrize("kind", ["ablation", "attribution"])
def test_evidence_is_the_same_however_many_prompts_a_pass_takes(tiny_gpt2: LanguageModel, kind: str, monkeypatch: Any) -> None:
    the_task, found = task(tiny_gpt2, shots="zero"), list[Tensor]()
    for n_tokens in (1, 10**6):
        monkeypatch.setattr("workbench.methods.tarot.heads._TOKENS_AT_ONCE", n_tokens)
        found.append(rank_heads(tiny_gpt2, the_task, config(rank_by=kind), (2, 0)).relevance)
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-7)
    turned = rank_heads(tiny_gpt2, the_task, config(rank_by=kind), (0, 2)).relevance
    torch.testing.assert_close(found[0].flip(0), turned, rtol=1e-4, atol=1e-7)


def test_generated_text_can_be_the_objective(tiny_gpt2: LanguageModel) -> None:
    rows = labelled()
    pairs = Demonstrations(tuple(Demonstration(r.prompt, r.label, " w50", split=r.split, id=r.id) for r in rows))
    fit = fit_rotation(tiny_gpt2, pairs, config(objective="generated", new_tokens=3, budget=10), seed=0, progress=silent())
    assert fit.report.scalars["best_objective"] >= fit.report.scalars["first_objective"]
    space = angle_space(config(), tiny_gpt2, None)
    reward = WordClassifier.of(["w7 w8"], ["w9"])
    assert reward(["w7 w7", "w9", "w80"]).sign().tolist() == [1.0, -1.0, 0.0]
    points = torch.rand(2, space.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    objective = generation_objective(
        tiny_gpt2, [words(11, 12), words(13, 14)], reward, lambda point: edit_of(tiny_gpt2, space, space.angles(point)), 3
    )
    alone = torch.cat([objective(point[None]) for point in points])
    assert torch.equal(objective(points), alone)


def test_what_is_wrong_is_named(tiny_gpt2: LanguageModel) -> None:
    with pytest.raises(BadKnob, match="layers"):
        fitted(tiny_gpt2, layers=(9,))
    with pytest.raises(BadKnob, match="head"):
        fitted(tiny_gpt2, heads=("1-2",))
    with pytest.raises(NotEnoughData, match="validation"):
        fit_rotation(tiny_gpt2, labelled().split("fit"), config(), seed=0, progress=silent())
    same = Demonstrations(tuple(Demonstration(r.prompt, label=f" w1{' w2' * (i % 2)}", split=r.split) for i, r in enumerate(labelled())))
    assert "same token" in get("tarot").obstacles(tiny_gpt2, same)[0].reason
    assert label_of(Demonstration("w1", positive=" w2")) == " w2"


def test_too_many_angles_are_narrowed_to_ranked_heads_unless_something_says_which(tiny_gpt2: Any) -> None:
    deep = replace(tiny_gpt2.info, n_layers=30, n_heads=9, d_head=64)
    ranked = narrowed(TarotConfig(), deep)
    assert ranked.top_heads == 8 and ranked.rank_by == "attribution"
    for said in (TarotConfig(layers=(3,)), TarotConfig(depth="first"), TarotConfig(heads=("3.1",)), TarotConfig(top_heads=4)):
        assert narrowed(said, deep) is said
    assert narrowed(TarotConfig(), tiny_gpt2.info).top_heads is None  # few enough


def test_one_answer_to_everything_is_no_edit() -> None:
    def table(before: str, after: str) -> list[dict[str, str]]:
        both = (("before", before), ("after", after))
        return [{"when": when, "label": label, "answer": answer} for when, said in both for label, answer in zip("ab", said)]

    assert constant_answer(table("ab", "bb")) == "b"
    assert constant_answer(table("ab", "ba")) is None
    assert constant_answer(table("bb", "bb")) is None, "it said so before the edit as well"


def test_prompts_are_answered_once_under_a_point_and_as_they_would_be_alone(tiny_gpt2: LanguageModel, monkeypatch: Any) -> None:
    the_task, space = task(tiny_gpt2, shots="zero"), angle_space(config(), tiny_gpt2, None)
    points = torch.rand(3, space.dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    objective, lanes = AngleObjective(tiny_gpt2, space, config(), the_task), list[int]()
    ran = AngleObjective._last_logits
    monkeypatch.setattr(AngleObjective, "_last_logits", lambda self, some: (lanes.append(len(some)), ran(self, some))[1])
    first, both = objective.answers(points[:2]), objective.answers(points[[2, 0, 1]])
    assert lanes == [2, 1]
    alone = AngleObjective(tiny_gpt2, space, config(), the_task).answers(points[[2, 0, 1]])
    assert torch.equal(both.right, alone.right) and torch.equal(both.tokens, alone.tokens) and torch.equal(both.right[1:], first.right)
    torch.testing.assert_close(both.p, alone.p)
    # Control: other points are answered otherwise.
    assert not torch.equal(both.p[0], both.p[1])


def test_in_a_large_network_some_prompts_rank_the_heads_of_right_and_wrong_ones_alike(tiny_gpt2: LanguageModel, monkeypatch: Any) -> None:
    the_task = task(tiny_gpt2, shots="zero")
    whole = rank_heads(tiny_gpt2, the_task, config(rank_by="attribution"), (0, 1, 2)).relevance
    monkeypatch.setattr("workbench.methods.tarot.heads.SMALL", 0)
    monkeypatch.setattr("workbench.methods.tarot.heads._READ_IN_LARGE", len(the_task))
    assert torch.equal(rank_heads(tiny_gpt2, the_task, config(rank_by="attribution"), (0, 1, 2)).relevance, whole)
    monkeypatch.setattr("workbench.methods.tarot.heads._READ_IN_LARGE", len(the_task) // 2)
    few = rank_heads(tiny_gpt2, the_task, config(rank_by="attribution"), (0, 1, 2)).relevance
    half = heads._rows_of(the_task, torch.arange(0, len(the_task), 2))
    monkeypatch.setattr("workbench.methods.tarot.heads._READ_IN_LARGE", len(the_task))
    torch.testing.assert_close(few, rank_heads(tiny_gpt2, half, config(rank_by="attribution"), (0, 1, 2)).relevance)
    assert not torch.allclose(few, whole)
