"""HPR, Householder pseudo-rotation: a probe says which tokens are on the wrong side, a network how far to turn them.

Ref: docs/methods/hpr.md; Pham and Nguyen, EMNLP 2024, arXiv 2409.10053. Law: `numerics.householder`; training: `numerics.angle_training`,
all layers in one batched pass. Differs: neutral text is protected (§3.6), layers are chosen by validation benefit, each probe and each net
keeps its own best checkpoint, the last block is read where it is edited, only conversations are rendered as chats; preset
`paper` trains and chooses as the paper does, `official-compat` as the released code, defects included.

The arrays of the report; L all trained layers, S the edited ones, `[l]` an edited layer: `layers` (L,) · `selected` (L,) ·
`probe_accuracy`, `probe_accuracy_low`, `probe_accuracy_high`, `probe_bce` (L,) on held-out pairs · `steps` (C,) and `curve_accuracy`,
`curve_bce`, `curve_angle_loss` (C, L) · `n_pairs`, `n_skipped` (L,) · `gated_neutral`, `gated_good`, `gated_bad`, `gated_prompt_end` (L,)
share of held-out tokens on the negative side · `flipped` (L,) share of bad tokens whose predicted angle crosses the hyperplane ·
`benefit`, `wins`, `damage` (L,) of editing the layer alone, NaN if not measured · `angle_target[l]`, `angle_predicted[l]` (n,) radians on
held-out bad tokens · `angle_predicted_good[l]` (n,) · `explained` (L,) 1 − MSE / var · `cosine_to_probe[l]` (n,) cosines of held-out
tokens with the probe · `probe_cosines` (L, L) · `probe_mean_difference` (L,) · `edit_size_mean`, `edit_size_95`, `rotated_share` (S,) on
held-out texts.  Tables: `layers`, `tokens`, `prefixes`.
"""

from __future__ import annotations

import torch

from workbench.data.demonstrations import Demonstrations
from workbench.errors import FitFailed
from workbench.knobs import existing_layers
from workbench.methods.hpr.config import PRESETS, HprConfig, tries
from workbench.methods.hpr.edit import HouseholderEdit, LayerTurn
from workbench.methods.hpr.report import HprFit, report
from workbench.methods.hpr.rows import Alike, pair_rows, pairs_of, split_by_question
from workbench.methods.hpr.select import LayerSelection, by_accuracy, by_benefit
from workbench.methods.registry import Fitted, Notice, header, method, with_notices
from workbench.methods.shared.gating import gated
from workbench.methods.shared.layers import SMALL
from workbench.methods.shared.needs import Needs
from workbench.methods.shared.neutral import Neutral, neutral_of
from workbench.methods.shared.sparing import spared
from workbench.methods.shared.starts import start_layer
from workbench.models.base import LanguageModel
from workbench.numerics.angle_training import PairRows, Trained, Training, train_angles
from workbench.progress import Progress
from workbench.sites import Site

AROUND = 4
"""How far from the layer that was found layers are trained in a network of size, every other one."""
_CHOOSE_ON, _CHOOSE_ON_IN_LARGE = (64, 24), (24, 12)
"""Validation rows and neutral texts that choose layers, at most."""


@method(
    "hpr",
    title="HPR",
    summary="Turn activations on the wrong side of a probe towards the right side, by an angle that a small network predicts.",
    paper="arXiv 2409.10053",
    config=HprConfig,
    edit=HouseholderEdit,
    needs=Needs(("prompt", "positive", "negative"), min_rows=4),
    presets=PRESETS,
    tries=tries,
    scopes=lambda scope: {"layers": scope.blocks},
    order=3,
    cost="each fit trains a probe and a network a layer: several seconds, in models of size a minute",
)
def fit(model: LanguageModel, demonstrations: Demonstrations, config: HprConfig, *, seed: int, progress: Progress) -> Fitted:
    """Train probes and angle networks of all layers on split `fit`; choose checkpoints and layers on `validation`.

    Raises:
        FitFailed: good and bad answers give the same activations.
        NotFinite: as `record.gather`.
    """
    layers, notices = _candidates(model, demonstrations, config, progress.part(0.0, 0.1))
    rows, held_rows = demonstrations.split("fit"), demonstrations.split("validation").having("prompt", "positive", "negative")
    if len(held_rows) == 0:
        rows, held_rows = split_by_question(rows, seed)
    neutral = neutral_of(model, demonstrations, seed) if config.neutral_weight > 0 or config.select == "benefit" else None
    train_rows, held = _collected(model, rows, held_rows, neutral, layers, config, seed, progress.part(0.1, 0.25))
    trained = _trained(model, train_rows, held, layers, config, seed, progress.part(0.25, 0.7))
    facts = {
        "layers": list(layers),
        "n_mlp": config.n_mlp,
        "positions": config.where,
        "formula": config.compat.formula,
        "clamp_angle": config.compat.clamp_angle,
        **({"angle": "arccos"} if config.compat.formula == "official" else {}),
    }
    turns = {layer: LayerTurn.of(trained.probes[i].clone(), trained.nets.one(i)) for i, layer in enumerate(layers)}
    everything = HouseholderEdit(header("hpr", model, demonstrations, config, seed, facts), turns)
    chosen, selection = _selected(model, everything, trained, held_rows, neutral, config, progress.part(0.7, 0.9))
    result = HprFit(trained, train_rows, held, layers, everything.restricted(chosen), selection, held_rows, neutral)
    fitted = Fitted(result.edit, report(model, result, config, len(rows), progress.part(0.9, 0.95)))
    fitted = gated(model, fitted, demonstrations, config.gate, seed=seed, progress=progress.part(0.95, 1.0))
    return with_notices(spared(model, fitted, demonstrations, config.spare), *notices)


def _candidates(
    model: LanguageModel, demonstrations: Demonstrations, config: HprConfig, progress: Progress
) -> tuple[tuple[int, ...], tuple[Notice, ...]]:
    """The layers to train, and why: all, or in a network of size those around the one that a look at all finds."""
    n = model.info.n_layers
    if config.layers is not None:
        return existing_layers("layers", config.layers, n), ()
    if config.select != "benefit" or model.info.n_parameters < SMALL:
        return tuple(range(n)), ()
    start = start_layer(model, demonstrations, "mean", n // 2, progress)
    return tuple(layer for layer in range(start.layer - AROUND, start.layer + AROUND + 1, 2) if 0 <= layer < n), start.notices


def _collected(
    model: LanguageModel,
    rows: Demonstrations,
    held_rows: Demonstrations,
    neutral: Neutral | None,
    layers: tuple[int, ...],
    config: HprConfig,
    seed: int,
    progress: Progress,
) -> tuple[PairRows, PairRows]:
    is_last = [config.compat.last_block_fit == "ln_final" and layer == model.info.n_layers - 1 for layer in layers]
    sites = [Site("ln_final") if last else Site("resid_post", layer) for layer, last in zip(layers, is_last)]
    alike = Alike(config.ident_threshold, config.compat.ident_coordinates)
    protects = neutral is not None and config.neutral_weight > 0
    found: list[PairRows] = []
    for i, (some, texts) in enumerate(((rows, neutral.fit if neutral else ()), (held_rows, neutral.held if neutral else ()))):
        pairs = pairs_of(some, config.references, config.n_pairs, seed)
        calm = texts if protects or i == 1 else ()
        part = progress.part(i / 2, (i + 1) / 2)
        found.append(pair_rows(model, pairs, calm, sites, config.read, alike, config.n_pairs, seed, part))
    if not bool(found[0].used.any()):
        raise FitFailed(
            f"Good and bad answers give the same activations in all {found[0].n_pairs} pairs of tokens at every layer.",
            "Use answers whose texts differ, or read each token (read = each).",
        )
    return found[0], found[1]


def _trained(
    model: LanguageModel, rows: PairRows, held: PairRows, layers: tuple[int, ...], config: HprConfig, seed: int, progress: Progress
) -> Trained:
    per_epoch = -(-rows.n_pairs // config.batch_pairs)
    joint = config.compat.checkpoint == "joint_probe_accuracy"
    how = Training(
        lr=default_lr(model.info.d_model) if config.lr is None else config.lr,
        n_steps=max(config.epochs * per_epoch, config.min_steps),
        batch_pairs=config.batch_pairs,
        warmup_ratio=config.warmup_ratio,
        weight_decay=config.weight_decay,
        clip_norm=config.clip_norm,
        neutral_weight=config.neutral_weight,
        checkpoint=config.compat.checkpoint,
        is_joint=joint,
        warm_up=config.compat.warm_up,
        clamps_target=config.compat.formula == "official",
        n_evaluations=config.epochs if joint else 20,
    )

    def tell(share: float, accuracy: torch.Tensor) -> None:
        progress(share, "Training probes and angle networks", probe_accuracy=accuracy.tolist(), layers=list(layers))

    return train_angles(rows, held, layers, how, n_mlp=config.n_mlp, width=config.mlp_width, seed=seed, tell=tell)


def default_lr(d_model: int) -> float:
    """5e-4 at 4096 dimensions, growing as 1/√d for narrower models: their nets are small and their data few."""
    return min(5e-3, 5e-4 * (4096 / d_model) ** 0.5)


def _selected(
    model: LanguageModel,
    edit: HouseholderEdit,
    trained: Trained,
    held_rows: Demonstrations,
    neutral: Neutral | None,
    config: HprConfig,
    progress: Progress,
) -> tuple[tuple[int, ...], LayerSelection | None]:
    if config.layers is not None:
        return edit.layers, None
    best = dict(zip(edit.layers, trained.accuracy.max(0).values.tolist()))
    if config.select != "benefit":
        return by_accuracy(best, config.top_k, config.min_accuracy if config.select == "threshold" else None), None
    n_rows, n_texts = _CHOOSE_ON if model.info.n_parameters < SMALL else _CHOOSE_ON_IN_LARGE
    texts = neutral.held[:n_texts] if neutral else ()
    selection = by_benefit(model, edit, held_rows.first(n_rows), texts, config.top_k, config.max_damage, progress)
    return selection.layers, selection
