"""What reproduces released code stands in a record of its own: how it is given, stored, read from older edits, and kept out of forms."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import pytest

from workbench.errors import BadKnob, UnknownKnob
from workbench.knobs import as_json, as_released, compat_of, configured, knob, knobs, renamed
from workbench.methods import get, names

WITH_RECORD = [name for name in names() if compat_of(get(name).config) is not None]


@dataclass(frozen=True)
class Switches:
    norm: Literal["feature"] | None = knob(None, label="Norm", help="…")
    inverse: Literal["sqrt", "squared"] = knob("sqrt", label="Inverse", help="…")
    share: float | None = knob(None, label="Share", help="…", bounds=(0.0, 1.0))


OFFICIAL = Switches("feature", "squared", 0.75)


@dataclass(frozen=True)
class Config:
    keep: float = knob(0.5, label="Keep", help="…", bounds=(0.0, 1.0))
    norm: Literal["token", "none"] = knob("token", label="Norm", help="…")
    compat: Switches = as_released(OFFICIAL)


def made(**values: Any) -> Config:
    return configured(Config, values)


def test_the_record_is_given_by_a_word_by_its_values_or_switch_by_switch() -> None:
    assert made().compat == Switches() and made(compat="ours") == made(compat=None) == made()
    assert made(compat="official").compat == made(compat=OFFICIAL).compat == OFFICIAL
    assert made(compat={"inverse": "squared"}).compat == Switches(inverse="squared")
    one = configured(Config, {"compat.inverse": "squared", "compat.share": "0.5"})
    assert one.compat == Switches(inverse="squared", share=0.5)
    assert configured(Config, {"compat": "official", "compat.inverse": "sqrt"}).compat == replace(OFFICIAL, inverse="sqrt")
    assert configured(Config, {"compat.share": "none"}, made(compat="official")).compat == replace(OFFICIAL, share=None)


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(UnknownKnob) as told:
        configured(Config, {"compat.invers": "squared"})
    assert "compat.inverse" in told.value.hint
    with pytest.raises(UnknownKnob, match="nverse2"):
        made(compat={"inverse2": "squared"})
    with pytest.raises(BadKnob, match="not a choice"):
        configured(Config, {"compat.inverse": "cubed"})
    for value in ("released", 3, ["official"]):
        with pytest.raises(BadKnob, match="ours, official"):
            made(compat=value)


def test_a_knob_sets_aside_the_switch_of_its_name_unless_the_record_is_given_with_it() -> None:
    official = made(compat="official")
    assert configured(Config, {"norm": "token"}, official).compat == replace(OFFICIAL, norm=None)
    assert configured(Config, {"keep": 0.7}, official).compat == OFFICIAL
    assert made(norm="token", compat="official").compat == OFFICIAL
    for order in (("norm", "compat.norm"), ("compat.norm", "norm")):
        both = configured(Config, {name: {"norm": "none", "compat.norm": "feature"}[name] for name in order})
        assert (both.norm, both.compat.norm) == ("none", "feature")


def test_configs_of_older_edits_are_understood() -> None:
    older = {"keep": 0.7, "norm": "feature", "inverse": "squared", "share": None}
    assert configured(Config, older) == Config(0.7, compat=Switches("feature", "squared"))
    assert configured(Config, {"compat": "official", "inverse": None}) == Config(compat=OFFICIAL)
    assert renamed(Config, older) == {"keep": 0.7, "compat": as_json(Switches("feature", "squared"))}
    assert renamed(Config, {"keep": 0.7}) == {"keep": 0.7}


def test_a_config_is_stored_whole_and_read_back_as_it_was() -> None:
    for config in (made(), made(compat="official"), made(keep=0.7, inverse="squared")):
        stored = as_json(config)
        assert stored["compat"] == as_json(config.compat) and configured(Config, stored) == config
    assert [item.name for item in knobs(Config)] == ["keep", "norm"]


def test_a_record_says_in_words_what_it_does_otherwise() -> None:
    record = compat_of(Config)
    assert record is not None
    assert record.words(as_json(OFFICIAL)) == "norm = feature, inverse = squared, share = 0.75"
    assert record.words(as_json(Switches())) == "" and record.words(as_json(Switches(inverse="squared"))) == "inverse = squared"


def test_every_method_whose_code_was_released_with_defects_has_one_and_its_preset_folds_it_in_whole() -> None:
    assert WITH_RECORD == ["finetuning", "hpr", "lora", "sea", "senses", "tarot"]
    for name in WITH_RECORD:
        method, record = get(name), compat_of(get(name).config)
        assert record is not None and record.official != record.ours
        assert method.configure(preset="official-compat").compat == record.official
        others = [preset for preset in method.presets if not preset.startswith("official-compat")]
        assert all(method.configure(preset=preset).compat == record.ours for preset in others)
        assert not {item.name for item in record.switches} & {item.name for item in knobs(method.config) if item.choices is None}


OLD_FLAT: dict[str, dict[str, Any]] = {
    "sea": {
        "keep": 0.998, "layers": None, "center": "none", "phi": "none", "layer_mode": "last", "n_layers": 21, "fit_site": "resid_post",
        "edit_site": "mlp_out", "norm": "feature", "merge": "sum", "phi_mode": "skip_input", "se_inverse": "squared", "restore_sign": False,
        "collect": "last", "final_period": "force_negative", "n_demos": 2000, "max_new_tokens": 256, "last_layer_fit": "ln_final",
        "where": "all", "gate": "none", "keep_plus": None, "keep_minus": None, "k_plus": None, "k_minus": None,
    },
    "hpr": {
        "neutral_weight": 0.0, "select": "accuracy", "lr": 5e-4, "min_steps": 0, "checkpoint": "joint_probe_accuracy",
        "ident_coordinates": 0.75, "formula": "official", "positions": "released", "last_block_fit": "ln_final", "clamp_angle": False,
    },
    "tarot": {
        "depth": "first", "n_train": 20, "optimizer": "official_bo", "n_init": 4, "include_identity": False, "resample_shots": True,
        "value_bias": "excluded", "select_on": "train", "lanes": 1,
    },
    "lora": {"lr": 1e-4, "compat": "official", "chunk_tokens": 500, "accumulate": None, "optimiser": None, "ball_inequality": None,
             "master_dtype": None, "lora_span": None, "kl_direction": "p0_to_p", "kl_reduce": "sum"},
    "finetuning": {"lr": 1e-6, "compat": "official", "chunk_tokens": 500, "accumulate": None, "master_dtype": None},
    "senses": {"lr": 0.01, "penalty": 1000.0, "compat": "official", "chunk_tokens": 500, "gvb_importance": None, "delta_dtype": None},
}  # fmt: skip


@pytest.mark.parametrize("name", WITH_RECORD)
def test_the_released_preset_as_edits_saved_before_hold_it_is_the_preset_of_now(name: str) -> None:
    method, wanted = get(name), get(name).configure(preset="official-compat")
    # What is newer than those edits has its default: the trainer's warm-up, and which tokens are spared.
    newer = {"spare": "none"} if "spare" in method.config.__dataclass_fields__ else {}
    same = replace(wanted, compat=replace(wanted.compat, warm_up="from_first_step")) if name == "hpr" else wanted
    assert method.configure({**OLD_FLAT[name], **newer}) == same
    assert method.configure(as_json(wanted)) == wanted


def test_the_released_bbq_runs_kept_their_full_stops() -> None:
    config = get("sea").configure(preset="official-compat-bbq")
    assert (config.period, config.restored, config.phi, config.compat.se_inverse) == ("keep", "feature", "squared_exponential", "squared")
    assert get("sea").configure(preset="official-compat").period == "force_negative"
    assert get("sea").configure({"norm": "token"}, "official-compat").restored == "token"


@pytest.mark.parametrize("name", names())
def test_every_number_has_bounds_what_is_counted_has_a_unit_and_every_help_is_a_sentence(name: str) -> None:
    record = compat_of(get(name).config)
    for item in (*knobs(get(name).config), *(() if record is None else record.switches)):
        assert item.bounds is not None or item.kind not in ("int", "float", "ints", "floats"), item.name
        assert item.unit or item.kind != "int" or item.name == "layer", item.name  # which one, not how many
        assert len(item.help.split()) >= 4 and item.help.endswith(".") and not item.help.startswith("None:"), (item.name, item.help)


def test_sea_takes_the_exclusive_law_by_its_name() -> None:
    config = get("sea").configure({"merge": "exclusive", "base": "positive"})
    assert config.law_merge == "negative" and get("sea").configure().law_merge == "sum"
