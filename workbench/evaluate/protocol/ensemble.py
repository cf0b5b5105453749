"""Lend a Backpack's sense edit to a larger model at inference time, and measure it in the larger model's own ball.

    log p(w|x) = log p_big(w|x) + β (log p_edited(w|x) − log p_backpack(w|x)) − log Z(x)

β is the first of 1, 0.9, …, 0 with ρ = ℓ_G(ensemble)/ℓ_G(big) in the ball of ε; β = 0 always is. No gradient and no weight of the larger
model is touched, and no transformer runs twice: the Backpack's shift is affine in its table.
Ref: docs/methods/senses.md §10. Differs: with `beta_data = "half"` β is chosen on one half of the neutral text and ρ reported on the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from workbench.data.demonstrations import Demonstrations
from workbench.errors import Obstructed
from workbench.evaluate.protocol.compat import EvalNorm
from workbench.evaluate.protocol.measure import canonical_task, item_values, succeeded
from workbench.evaluate.protocol.rules import OURS, Rules, in_ball
from workbench.evaluate.protocol.scores import CanonicalSummary, general_chunks, protocol
from workbench.knobs import configured
from workbench.methods import ordered
from workbench.methods.shared.canonical_examples import CanonicalItem, Chunk
from workbench.methods.shared.sense_edit import SenseEdit
from workbench.methods.shared.sense_texts import as_examples, item_texts, neutral_reading
from workbench.models.backpack.model import BackpackModel
from workbench.models.base import LanguageModel
from workbench.models.tokens import TokenBatch
from workbench.numerics.intervals import Interval, paired_share_interval
from workbench.numerics.sense_affine import AffineText, SenseSelection, affine, ensemble_logits
from workbench.operations import wide
from workbench.progress import Progress, silent
from workbench.score import widened
from workbench.shapes import Float, Tensor

BETAS = tuple(tenth / 10 for tenth in range(10, -1, -1))


class Ensemble:
    """Texts as both models read them once; any table and β is then a product with E."""

    def __init__(self, big: LanguageModel, model: BackpackModel, general: Sequence[Chunk], rules: Rules = OURS) -> None:
        """Read neutral text.

        Raises:
            Obstructed: the models' tokenizers differ.
        """
        if not same_tokens(big, model):
            raise Obstructed(
                f"{big.info.name} and {model.info.name} cut texts into different tokens.", "Choose two models with one tokenizer."
            )
        self._big, self._model, self._E = big, model, wide(model.embedding)
        self._round_to = rules.rounding(big)
        self._n_shared = min(big.info.d_vocab, model.n_tokens)
        self._general = [chunk.predicting() for chunk in neutral_reading(model, general).chunks]
        self._logits = [self._big_rows(chunk, range(len(chunk) - 1)) for chunk in general]

    def general(self, selection: SenseSelection, delta: Tensor, beta: float, half: int | None = None) -> float:
        """Return ℓ_G in nats per predicted token: of all neutral chunks, or of every second one from `half` on."""
        chosen = slice(None) if half is None else slice(half, None, 2)
        texts = [affine(text, selection) for text in self._general[chosen]]
        rows = [self._nll(logits, text, delta, beta) for logits, text in zip(self._logits[chosen], texts, strict=True)]
        return sum(row.sum(dtype=torch.float64).item() for row in rows) / sum(map(len, rows))

    def losses(
        self, items: Sequence[CanonicalItem], selection: SenseSelection, delta: Tensor, beta: float, norm: EvalNorm = "sum"
    ) -> list[float]:
        """Return items' evaluation losses."""
        examples = as_examples(items, item_texts(self._model, items), selection)
        texts = [text for example in examples for text in example.texts()]
        read = [self._big_rows(ids, rows) for item in items for ids, rows in item.sequences()]
        sums = [float(self._nll(*pair, delta, beta).sum()) for pair in zip(read, texts, strict=True)]
        return item_values(items, sums, norm)

    def beta(self, selection: SenseSelection, delta: Tensor, epsilon: float, rules: Rules = OURS) -> tuple[float, float]:
        """Return the largest β in the ball, and the ρ to report for it."""
        choose, report = (None, None) if rules.beta_data == "all" else (0, 1)
        strict = rules.strict("validation")
        base = self.general(selection, delta, 0.0, choose)
        found = next(b for b in BETAS if b == 0 or in_ball(self.general(selection, delta, b, choose) / base, epsilon, strict))
        return found, self.general(selection, delta, found, report) / self.general(selection, delta, 0.0, report)

    @torch.no_grad()
    def _big_rows(self, ids: Sequence[int], rows: Sequence[int]) -> Float[Tensor, "row d_vocab"]:
        logits = self._big.logits(TokenBatch.of([ids], None, self._big.device))[0, list(rows)]
        return wide(widened(logits, self._round_to))

    def _nll(self, logits: Tensor, text: AffineText, delta: Tensor, beta: float) -> Float[Tensor, " row"]:
        mixed = ensemble_logits(logits, text.h(delta) - text.h0, self._E, beta, self._n_shared)
        return torch.nn.functional.cross_entropy(mixed, text.targets, reduction="none")


def same_tokens(big: LanguageModel, model: LanguageModel) -> bool:
    """Whether two models have the same vocabulary."""
    return big.tokenizer.get_vocab() == model.tokenizer.get_vocab()


def ensemble_losses(
    big: LanguageModel, model: BackpackModel, items: Sequence[CanonicalItem], selection: SenseSelection, delta: Tensor, beta: float
) -> list[float]:
    """Return items' evaluation losses under another model that borrows a sense edit at inference time."""
    return Ensemble(big, model, ()).losses(items, selection, delta, beta)


@dataclass(frozen=True)
class EnsembleRecord:
    """One seed's sense edit lent to another model at one ε: β, success and hard negatives before and after, ρ in that model's ball."""

    task: str
    big: str
    epsilon: float
    seed: int
    beta: float
    success0: float
    success: float
    n: int
    change: Interval
    rho: float
    hn0: float
    hn: float


@dataclass(frozen=True)
class EnsembleSummary:
    """Records over seeds at one ε."""

    records: tuple[EnsembleRecord, ...]

    def row(self) -> dict[str, Any]:
        """Return one row of the table that compares methods."""
        first, changes = self.records[0], [record.success - record.success0 for record in self.records]
        names = ("beta", "success0", "success", "rho", "hn0", "hn")
        mean = {name: float(np.mean([asdict(record)[name] for record in self.records])) for name in names}
        return {
            "task": first.task, "method": f"ensemble with {first.big}", "epsilon": first.epsilon, "seeds": len(self.records), "n": first.n,
            "success before": mean["success0"], "success after": mean["success"], "change": float(np.mean(changes)),
            "standard error": float(np.std(changes) / math.sqrt(len(changes))), "general loss rise": mean["rho"] - 1,
            "hard negatives rise": mean["hn"] - mean["hn0"], "beta": mean["beta"],
        }  # fmt: skip


def lendable() -> tuple[str, ...]:
    """Names of the methods whose edits another model can borrow: those that edit senses."""
    return tuple(item.name for item in ordered() if issubclass(item.edit, SenseEdit))


def ensemble_protocol(
    big: LanguageModel,
    model: BackpackModel,
    demonstrations: Demonstrations,
    method: str | None = None,
    *,
    n_general: int = 128,
    rules: Rules = OURS,
    progress: Progress | None = None,
    **options: Any,
) -> tuple[tuple[EnsembleSummary, ...], tuple[CanonicalSummary, ...]]:
    """Run the protocol of a method that edits senses on a Backpack, and lend each edit to a larger model in that model's own ball.

    Args:
        method: one of `lendable`; the first of them if none.

    Returns the ensemble's summaries and those of the Backpack alone. Options: as `protocol`.

    Raises:
        Obstructed: the method does not edit senses. Others: as `protocol`.
    """
    tell, known = progress or silent(), lendable()
    name = method or known[0]
    if name not in known:
        raise Obstructed(f"{name} does not edit senses, and only sense edits can be lent.", f"Choose {' or '.join(known)}.")
    _, general = general_chunks(model, demonstrations, limit=n_general)
    both = Ensemble(big, model, general, rules)  # refuses before anything is fitted
    rules = configured(
        Rules, {"compat.score_dtype": "float32"}, rules
    )  # rounds what the larger model says; a Backpack is scored in float32
    task = canonical_task(model, demonstrations, "test", rules)
    edits: dict[tuple[float, int], SenseEdit] = {}

    def keep(epsilon: float, seed: int, edit: Any) -> None:
        edits[epsilon, seed] = edit

    alone = protocol(
        model, demonstrations, name, n_general=n_general, rules=rules, control=False, keep=keep, progress=tell.part(0.0, 0.7), **options
    )
    found: list[EnsembleSummary] = []
    for i, summary in enumerate(alone):
        records: list[EnsembleRecord] = []
        for record in summary.records:
            edit = edits.get((summary.epsilon, record.seed))
            table = _table(edit, model)
            beta, rho = both.beta(*table, summary.epsilon, rules)
            norms: dict[str, EvalNorm] = {"E": rules.compat.eval_norm, "H": "sum"}
            values = {b: {r: both.losses(items, *table, b, norms[r]) for r, items in _asked(task).items()} for b in (0.0, beta)}
            records.append(_record(task, big, summary.epsilon, record.seed, beta, rho, values))
            tell(0.7 + 0.3 * (i + len(records) / len(summary.records)) / len(alone), f"ensemble at {summary.epsilon:.0e}")
        found.append(EnsembleSummary(tuple(records)))
    return tuple(found), alone


def _table(edit: SenseEdit | None, model: BackpackModel) -> tuple[SenseSelection, Tensor]:
    if edit is None:
        return SenseSelection.of(()), wide(model.embedding).new_zeros(0, model.info.d_model)
    return edit.selection, edit.delta.float()


def _asked(task: Any) -> Mapping[str, Sequence[CanonicalItem]]:
    return {"E": task.evaluation, "H": task.hard_negatives}


def _record(
    task: Any, big: LanguageModel, epsilon: float, seed: int, beta: float, rho: float, values: Mapping[float, Mapping[str, Sequence[float]]]
) -> EnsembleRecord:
    before, after = (np.array(succeeded(task.evaluation, values[b]["E"])) for b in (0.0, beta))
    hard0, hard = (float(np.mean(values[b]["H"])) if len(values[b]["H"]) else 0.0 for b in (0.0, beta))
    return EnsembleRecord(
        task.name, big.info.name, epsilon, seed, beta, float(before.mean()), float(after.mean()), len(before),
        paired_share_interval(before, after), rho, hard0, hard,
    )  # fmt: skip


__all__ = ["BETAS", "Ensemble", "EnsembleRecord", "EnsembleSummary", "ensemble_losses", "ensemble_protocol", "lendable", "same_tokens"]
