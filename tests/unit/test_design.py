"""Design search: what it varies, what it keeps, what it never reads, and what is told of its winners."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.conftest import contrast_rows, taught_rows, words
from workbench.cli.main import app
from workbench.data.sources import write
from workbench.errors import BadKnob, NotEnoughData, Obstructed, UnknownMethod
from workbench.evaluate.design.bench import LEAST_TAIL, DesignBench, DesignTrial
from workbench.evaluate.design.record import DesignSearch
from workbench.evaluate.design.search import design_search
from workbench.evaluate.design.space import DESIGN_DOSES, Design, fast_methods, space_of, tried_configurations
from workbench.evaluate.design.winners import LIMITS, winners_of
from workbench.methods import get
from workbench.methods.registry import ordered
from workbench.progress import Cancelled, Progress, Report
from workbench.search.pool import N_DRAWN
from workbench.session import Session
from workbench.workspace.sweeping import BIN_DAYS, DESIGN_DRAFTS, clean

NEUTRAL = [words(*range(i, i + 12)) for i in range(10, 30)]
ROWS = taught_rows(60)
METHODS = ("mean_difference", "angular")


def searched(model: Any, rows: Any = ROWS, methods: Any = METHODS, trials: int = 14, **options: Any) -> DesignSearch:
    return design_search(model, rows, methods, NEUTRAL, trials=trials, **options)


def keys(found: DesignSearch) -> list[tuple[str, str]]:
    return [(one.design.key, one.stage) for one in found.trials]


def stopping_after(n: int) -> Progress:
    """Progress that is cancelled once so many trials are measured."""

    def tell(report: Report) -> None:
        found = report.live.get("found")
        if isinstance(found, DesignSearch) and len(found.trials) == n:
            progress.cancel()

    progress = Progress(tell)
    return progress


# ── the space ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_varied_follows_from_the_registry_and_slow_methods_join_on_request_alone(tiny_gpt2: Any) -> None:
    names = fast_methods(tiny_gpt2, ROWS)
    assert names and all(not get(name).cost for name in names) and set(METHODS) <= set(names)
    assert {one.name for one in ordered() if not one.cost} >= set(names) and any(one.cost for one in ordered())
    space = space_of(tiny_gpt2, names)
    assert len({one.key for one in space.designs}) == len(space.designs) == len(space.features) == len(space.kinds)
    assert space.features.min() >= 0 and space.features.max() <= 1
    assert len(np.unique(space.features, axis=0)) == len(space.designs), "designs that differ stand at different places"
    for name in names:
        mine, known = tried_configurations(get(name), tiny_gpt2.info), get(name)
        assert all(known.configure(values) for values in mine)
        doses = {one.dose for one in space.designs if one.method == name}
        assert doses == {dose for dose in DESIGN_DOSES if dose <= max(2.0, known.top_dose)}
    read = {one.values["read"] for one in space.designs if one.method == "mean_difference"}
    assert read == {"last", "mean"}
    drawn = tried_configurations(get("lora"), tiny_gpt2.info)
    assert len(drawn) == 16 and drawn == tried_configurations(get("lora"), tiny_gpt2.info)


def test_words_that_nobody_knows_and_sets_that_cannot_choose_are_refused_before_any_fit(tiny_gpt2: Any) -> None:
    with pytest.raises(UnknownMethod):
        searched(tiny_gpt2, methods=("sae",))
    with pytest.raises(Obstructed, match="Backpack"):
        searched(tiny_gpt2, methods=("senses",))
    with pytest.raises(Obstructed, match="no method"):
        space_of(tiny_gpt2, ())
    with pytest.raises(BadKnob, match="0 trials"):
        searched(tiny_gpt2, trials=0)
    with pytest.raises(NotEnoughData, match="marked validation"):
        searched(tiny_gpt2, ROWS.split("fit", "test"))


# ── measuring ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_trial_is_the_paired_gain_and_the_mean_damage_of_the_most_moved_twentieth(tiny_gpt2: Any) -> None:
    from workbench.methods.shared.validation import measured
    from workbench.score import text_divergences

    bench, design = DesignBench(tiny_gpt2, ROWS, 0), Design("mean_difference", {"layers": (1,)}, 2.0)
    found = bench.trial(design, "drawn")
    known = get("mean_difference")
    edit = known.fit(tiny_gpt2, ROWS, known.configure({"layers": (1,)})).edit.scaled(2.0)
    rows = ROWS.split("validation")
    base, edited = (np.array(one.margins) for one in measured(tiny_gpt2, [(), (edit,)], rows, ()))
    assert found.gains == pytest.approx((edited - base).tolist(), abs=1e-5)
    kl = np.sort(text_divergences(tiny_gpt2, bench.ground.batch, [(edit,)], bench.ground.counted).kl.numpy()[0])
    beyond = kl[-max(1, math.floor(0.05 * len(kl))) :]
    assert found.mean_nats == pytest.approx(kl.mean(), rel=1e-4) and found.tail_nats == pytest.approx(beyond.mean(), rel=0.1)
    assert np.quantile(kl, 0.95) <= found.tail_nats <= kl.max()
    gain, harm = found.objectives
    assert gain == pytest.approx(found.gain.estimate) and harm == pytest.approx(-math.log10(max(found.tail_nats, LEAST_TAIL)))
    assert DesignTrial.of(json.loads(json.dumps(found.told()))) == found


def test_a_configuration_is_fitted_once_and_one_that_cannot_be_is_told_and_given_up(
    tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workbench import memo
    from workbench.methods.registry import Method

    fits, plain = list[str](), Method.fit

    def counted(self: Method, *args: Any, **options: Any) -> Any:
        fits.append(self.name)
        return plain(self, *args, **options)

    monkeypatch.setattr(Method, "fit", counted)
    with memo.remembering():
        bench = DesignBench(tiny_gpt2, ROWS, 0)
        for dose in (0.5, 1.0, 2.0):
            assert not bench.trial(Design("mean_difference", {"layers": (1,)}, dose), "drawn").why
        assert fits == ["mean_difference"]
        wrong = [Design("sea", {"layers": (1,), "center": "grand", "phi": "tanh"}, dose) for dose in (0.5, 1.0)]
        told = [bench.trial(one, "search") for one in wrong]
    assert fits == ["mean_difference", "sea"] and all("center = grand" in one.why for one in told)
    assert all(math.isnan(value) for one in told for value in one.objectives)
    assert DesignTrial.of(json.loads(json.dumps(told[0].told()))) == told[0]


# ── searching ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_front_is_live_from_the_first_trial_and_control_and_search_go_on_side_by_side(tiny_gpt2: Any) -> None:
    live: list[DesignSearch] = []

    def tell(report: Report) -> None:
        if isinstance(found := report.live.get("found"), DesignSearch):
            live.append(found)

    found = searched(tiny_gpt2, trials=N_DRAWN + 2, progress=Progress(tell))
    assert {len(one.trials) for one in live} == set(range(len(found.trials) + 1)) and found.is_whole
    stages = [one.stage for one in found.trials]
    assert stages == ["drawn"] * N_DRAWN + ["search", "control"] * 2
    assert len(found.searched) == len(found.random) == N_DRAWN + 2
    values = found.values
    for at in found.front:
        assert not any((values[i] >= values[at]).all() and (values[i] > values[at]).any() for i in range(len(values)))
    alone = searched(tiny_gpt2, trials=N_DRAWN + 2, control=False)
    assert [keys(found)[at] for at in found.searched] == keys(alone), "the control tells the search nothing"
    assert "random draws" in found.sentence and "random draws" not in alone.sentence
    rows = found.rows()
    assert [row["trial"] for row in rows] == list(range(1, len(rows) + 1)) and sum(row["front"] for row in rows) == len(found.front)
    assert [row["trial"] - 1 for row in found.table()] == list(found.front)


def test_a_cancel_keeps_the_front_and_what_is_resumed_has_the_same_trials(tiny_gpt2: Any) -> None:
    whole, stored, counts = searched(tiny_gpt2), list[DesignTrial](), list[int]()

    def kept(trials: Any) -> None:
        stored[:] = trials
        counts.append(len(stored))

    for stop in (3, 15):
        counts.clear()
        with pytest.raises(Cancelled) as caught:
            searched(tiny_gpt2, progress=stopping_after(stop), keep=kept)
        best = caught.value.best
        assert isinstance(best, DesignSearch) and keys(best) == keys(whole)[:stop]
        assert not best.winners and not best.is_whole
        n_stored, resumed = len(stored), searched(tiny_gpt2, known=list(stored), keep=kept)
        assert keys(resumed) == keys(whole) and resumed.front == whole.front
        assert [one.design.key for one in stored[:n_stored]] == [one.design.key for one in whole.trials][:n_stored]
        assert counts[-1] == counts[0] + len(counts) - 1 == len({one.design.key for one in whole.trials}), "each is measured once"
    with pytest.raises(Cancelled) as caught:
        progress = Progress()
        progress.cancel()
        searched(tiny_gpt2, progress=progress)
    assert caught.value.best is None


def test_test_rows_are_read_once_all_trials_are_measured_and_never_before(tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    other = ROWS.with_rows(replace(row, positive=" w52", negative=" w3") if row.split == "test" else row for row in ROWS)
    one, two = searched(tiny_gpt2), searched(tiny_gpt2, other)
    assert [one.told() for one in one.trials] == [one.told() for one in two.trials]
    assert [(won.limit, won.trial) for won in one.winners] == [(won.limit, won.trial) for won in two.winners] and one.winners
    # Negative control: what is told of the winners does depend on them, and turns round with them.
    assert all(a.gain.estimate == pytest.approx(-b.gain.estimate, abs=1e-5) for a, b in zip(one.winners, two.winners))
    asked: list[str] = []
    texts = set(ROWS.split("test").prompts())
    plain = tiny_gpt2.tokens.__func__

    def seen(self: Any, prompts: Any, *args: Any) -> Any:
        asked.extend(prompt for prompt in ([prompts] if isinstance(prompts, str) else prompts) if prompt in texts)
        return plain(self, prompts, *args)

    monkeypatch.setattr(type(tiny_gpt2), "tokens", seen)
    with pytest.raises(Cancelled):
        searched(tiny_gpt2, progress=stopping_after(16))
    assert not asked
    assert searched(tiny_gpt2).winners and set(asked) == texts


# ── winners ────────────────────────────────────────────────────────────────────────────────────────────────────────


def planted(gains: dict[float, float], n: int = 24) -> DesignSearch:
    """Trials by tail and mean gain, each prompt's within ±.05 of it."""
    draw = np.random.default_rng(0)
    trials = [
        DesignTrial(Design("mean_difference", {}, tail), "search", tuple((gain + draw.uniform(-0.05, 0.05, n)).tolist()), tail, tail / 2)
        for tail, gain in gains.items()
    ]
    return DesignSearch("tiny", "planted", ("mean_difference",), 0, 9, len(trials), tuple(trials), n, 500, "texts")


def test_the_front_and_the_winner_within_each_limit_are_the_planted_ones() -> None:
    found = planted({0.01: 0.2, 0.05: 0.5, 0.06: 0.3, 0.3: 0.4, 0.4: 0.9, 2.0: 5.0})
    assert found.front == (0, 1, 4, 5)
    assert winners_of(found) == {0.02: 0, 0.1: 1, 0.5: 4}
    turned = planted({0.4: 0.9, 0.01: 0.2, 0.05: 0.5})
    assert turned.front == (1, 2, 0), "from the least damage up"
    assert winners_of(planted({0.01: 0.5, 0.05: 0.2})) == {LIMITS[0]: 0}, "one design wins once"
    told = "designs were measured on 24 validation prompts; **{}** on the front, better than the unedited model and beaten by no other"
    for n, one, stand in (
        (6, found, "4** stand"),
        (1, planted({0.01: 0.5}), "1** stands"),
        (2, planted({0.01: 0.2, 0.05: 0.5}), "2** stand"),
        (1, planted({0.01: -0.5}), "none** stands"),
    ):
        assert one.sentence == f"{n} of 9 {told.replace('{}**', stand)} in gain and damage."


def test_a_design_is_named_by_its_method_its_knobs_and_its_dose() -> None:
    design = Design("sea", {"layers": (1, 2), "keep": 1 / 3, "k_plus": 5}, 0.5)
    assert design.label == f"{get('sea').title} × 0.5 (layers 1+2, keep 0.333, k plus 5)"
    assert replace(design, values={}).label == f"{get('sea').title} × 0.5"


def test_where_nothing_gains_beyond_chance_there_is_no_winner_and_no_test_row_is_read(tiny_gpt2: Any) -> None:
    assert winners_of(planted({0.01: 0.0, 0.05: 0.0})) == {}
    found = searched(tiny_gpt2, contrast_rows(30, seed=4).with_rows(_both_ways(contrast_rows(30, seed=4))), trials=3)
    assert not found.winners and "no test row is read" in found.sentence


def _both_ways(rows: Any) -> list[Any]:
    """Rows whose sides are those of a coin: nothing can be learned from them."""
    return [replace(row, positive=row.negative, negative=row.positive) if i % 2 else row for i, row in enumerate(rows)]


def test_winners_stand_beside_random_edits_with_n_and_interval(tiny_gpt2: Any) -> None:
    found = searched(tiny_gpt2)
    assert found.winners and [won.limit for won in found.winners] == sorted(won.limit for won in found.winners)
    for won in found.winners:
        trial = found.trials[won.trial]
        assert trial.tail_nats <= won.limit and won.gain.n == len(set(ROWS.split("test").prompts()))
        assert won.gain.estimate - won.placebo.estimate == pytest.approx(won.ahead.estimate, abs=1e-6)
        assert not won.gain.withheld and won.kind and won.edit_id
    assert [fit.edit.id for fit in found.fits] == [won.edit_id for won in found.winners]
    assert all(fit.edit.header.data == ROWS.fingerprint for fit in found.fits)
    table = found.winner_rows()
    assert all(row["n"] and row["edit"] and "[" in row["gain, test"] for row in table)
    assert found.winners[-1].kind in found.sentence


# ── session and command ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_session_stores_trials_goes_on_from_them_and_has_the_winners_at_hand(tiny_gpt2: Any, tmp_path: Path) -> None:
    session = Session(tiny_gpt2, tmp_path)
    session.demos.save(ROWS)
    with pytest.raises(Cancelled):
        session.design_search(ROWS.name, METHODS, trials=14, neutral=ROWS, progress=stopping_after(5))
    told: list[str] = []

    def tell(report: Report) -> None:
        told.append(report.doing)

    found = session.design_search(ROWS.name, METHODS, trials=14, neutral=ROWS, progress=Progress(tell))
    assert keys(found) == keys(searched(tiny_gpt2))
    (run,) = session.workspace.runs.list("design")
    assert len(run.outputs["rows"]) == len(found.trials) and len(run.outputs["winners"]) == len(found.winners)
    won, design = found.winners[0], found.trials[found.winners[0].trial].design
    assert session.load_edit(won.edit_id).id == won.edit_id
    assert session.fit(design.method, ROWS.name, design.values).edit.id == won.edit_id, "opening a point gives the edit that was measured"


def test_stored_trials_are_thrown_away_like_what_is_in_the_bin_and_other_drafts_are_not(tmp_path: Path) -> None:
    from workbench.workspace.database import Database
    from workbench.workspace.home import Workspace

    workspace, now = Workspace(tmp_path), time.time()
    workspace.keep_draft(f"{DESIGN_DRAFTS}x", [1])
    workspace.keep_draft("typed", 2)
    clean(Database(tmp_path), now + 86_400)
    assert workspace.draft(f"{DESIGN_DRAFTS}x") == [1]
    clean(Database(tmp_path), now + (BIN_DAYS + 1) * 86_400)
    assert workspace.draft(f"{DESIGN_DRAFTS}x") is None and workspace.draft("typed") == 2


def test_the_command_tells_the_front_and_what_slow_methods_cost(tiny_gpt2: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.opening.open_session", lambda *_, **__: Session(tiny_gpt2, tmp_path / "home"))
    pairs, out = str(write(ROWS, tmp_path / "pairs.jsonl")), tmp_path / "found.json"
    command = ["design", pairs, "--trials", "3", "--method", "mean_difference", "--neutral", pairs]
    plain = CliRunner().invoke(app, [*command, "--out", str(out)])
    assert plain.exit_code == 0 and "The front" in plain.stdout, plain.output
    told = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert told == json.loads(out.read_text()) and len(told["rows"]) == 3 and told["n_prompts"] == 12
    slow = CliRunner().invoke(app, ["design", pairs, "--trials", "1", "--method", "hpr"])
    assert slow.exit_code == 0 and get("hpr").cost in slow.stderr
    assert CliRunner().invoke(app, ["design", pairs, "--trials", "0"]).exit_code == 2
