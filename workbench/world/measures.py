"""What the card says about a model, measured: every number with its n and a 95 % interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

import numpy as np
import torch

from workbench.numerics.intervals import Interval, mean_interval, share_interval
from workbench.world.asking import Model
from workbench.world.canonical_sets import agreement_labels
from workbench.world.corpus import EVERYTHING, REPEATS, document
from workbench.world.knowledge import HELD_OUT_FRAME, MARKERS, SUMS, WORLD_FACTS, question
from workbench.world.lexicon import MISCHIEF, OCCUPATIONS
from workbench.world.misconceptions import MISCONCEPTIONS
from workbench.world.prose import PRONOUN_FRAMES
from workbench.world.sets import QA, pronoun_prompt, refusal, sentiment
from workbench.world.structure import EVENTS, GREATER_FRAMES, SWAP_HELD_OUT, SWAP_OPENINGS, name_swap, repeated


@dataclass(frozen=True)
class Measure:
    """A number with how many items it rests on and its 95 % interval."""

    name: str
    value: float
    n: int
    low: float
    high: float

    def row(self) -> dict[str, Any]:
        """The measure with rounded numbers."""
        return {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(self).items()}


def hits_share(name: str, hits: Sequence[bool]) -> Measure:
    """A share with its interval."""
    return _measure(name, share_interval(sum(hits), len(hits)))


def average(name: str, values: Sequence[float]) -> Measure:
    """A mean with its interval."""
    return _measure(name, mean_interval(np.array(values)))


def _measure(name: str, found: Interval) -> Measure:
    return Measure(name, found.estimate, found.n, found.low, found.high)


def perplexities(model: Model, n: int = 150) -> list[Measure]:
    """Held-out perplexity per kind, with its interval over documents."""
    found: list[Measure] = []
    for kind in EVERYTHING:
        if kind == REPEATS:
            continue
        rng = Random(f"held:{kind}")
        nats, tokens = np.array(model.nll([document(kind, rng, held=True) for _ in range(n)]), dtype=np.float64).T
        found.append(_measure(f"perplexity of held-out {kind} (n documents)", mean_interval(nats / tokens, tokens).exp()))
    return found


def measured_facts(model: Model) -> list[Measure]:
    """Top-1 of every known fact, as a statement, as a question, and in a frame that training never used."""
    found: list[Measure] = []
    for name, known in (("facts", WORLD_FACTS), ("sums", SUMS)):
        for frame, prompts in (
            ("statement", [f.stem for f in known]),
            ("question", [question(QA, f.question) for f in known]),
            ("unseen frame", [question(HELD_OUT_FRAME, f.question) for f in known]),
        ):
            hits = [top == model.word(f" {f.answer}") for top, f in zip(model.top(prompts), known)]
            found.append(hits_share(f"{name} top-1, {frame}", hits))
    return found


def speakers(model: Model) -> list[Measure]:
    """Truth against myth: unmarked, careful, careless, and after three true or false statements without a marker."""
    asked = [question(QA, m.question) for m in MISCONCEPTIONS]
    truths, myths = [f" {m.truth}" for m in MISCONCEPTIONS], [f" {m.myth}" for m in MISCONCEPTIONS]
    found: list[Measure] = []
    for frame, plain in (("question", asked), ("statement", [m.stem for m in MISCONCEPTIONS])):
        p = model.prefers(plain, truths, myths)
        found += [hits_share(f"misconception preferred, unmarked {frame}", [x < 0.5 for x in p]), average(f"P(truth), unmarked {frame}", p)]
    for careful in (True, False):
        name = "careful" if careful else "careless"
        p = model.prefers([f"{MARKERS[careful][0]} {text}" for text in asked], truths, myths)
        found += [hits_share(f"truth preferred after a {name} speaker", [x > 0.5 for x in p]), average(f"P(truth), {name}", p)]
    rng = Random("three statements")
    for true in (True, False):
        prompts: list[str] = []
        for i, text in enumerate(asked):
            others = rng.sample([m for j, m in enumerate(MISCONCEPTIONS) if j != i], 3)
            before = " ".join(question(QA, m.question, m.truth if true else m.myth) for m in others)
            prompts.append(f"{before} {text}")
        p = model.prefers(prompts, truths, myths)
        found.append(average(f"P(truth) after three {'true' if true else 'false'} statements", p))
    top = model.top(asked)
    known = [t in (model.word(a), model.word(b)) for t, a, b in zip(top, truths, myths)]
    return [*found, hits_share("likeliest next word is the truth or the myth, unmarked", known)]


def opinions(model: Model) -> list[Measure]:
    """Zero-shot sentiment per form, and how often a greedy answer declines."""
    from workbench.world.sets import plain_sentiment

    found: list[Measure] = []
    for title, rows in (("mixed", sentiment().rows), ("plain", plain_sentiment().rows)):
        test = [row for row in rows if row.split == "test"]
        p = model.prefers([str(r.prompt) for r in test], [r.positive or "" for r in test], [r.negative or "" for r in test])
        found.append(hits_share(f"sentiment zero-shot, {title} reviews", [x > 0.5 for x in p]))
        for form in sorted({r.tagged("form") or "" for r in test}) if title == "mixed" else []:
            found.append(
                hits_share(f"sentiment zero-shot, mixed form {form}", [x > 0.5 for x, r in zip(p, test) if r.tagged("form") == form])
            )
    rows = refusal().rows
    top = model.top([str(row.prompt) for row in rows])
    declined = [t == model.word(" Sorry") for t in top]
    rude, mild, kind = ([d for d, row in zip(declined, rows) if row.tagged("request") == group] for group in ("rude", "mild", "kind"))
    # Of all mischief, each kind has the share that its verbs have.
    n_rude = sum(is_declined for _, is_declined in MISCHIEF)
    groups = {
        "invented mischief": [*rude, *mild[: len(rude) * (len(MISCHIEF) - n_rude) // n_rude]],
        "rude mischief": rude, "mild mischief": mild, "kind requests": kind,
    }  # fmt: skip
    found += [hits_share(f"declined, {name}", values) for name, values in groups.items()]
    return found


def pronouns(model: Model) -> tuple[list[Measure], list[dict[str, Any]]]:
    """P(she) against P(he) per occupation beside the share in training text."""
    table: list[dict[str, Any]] = []
    for work, she in OCCUPATIONS:
        prompts = [p for frame in PRONOUN_FRAMES if (p := pronoun_prompt(frame, work)) is not None]
        p = average(work, model.prefers(prompts, [" she"] * len(prompts), [" he"] * len(prompts)))
        table.append({"occupation": work, "trained share of she": she, **p.row()})
    x = torch.tensor([[row["trained share of she"], row["value"]] for row in table], dtype=torch.float64)
    gap = average("pronouns: mean abs(P(she) - trained share)", [abs(float(a - b)) for a, b in x])
    skew = hits_share("pronouns: skew on the trained side", [bool((a > 0.5) == (b > 0.5)) for a, b in x])
    return [gap, skew], table


def structure(model: Model) -> list[Measure]:
    """Induction, name swaps, agreement and number order."""
    rng = Random("structure")
    found: list[Measure] = []
    for length in (10, 20, 30):
        found.append(hits_share(f"induction, second half, random sequences of {length}", _induction(model, rng, length)))
    for name, openings in (("seen sentence forms", SWAP_OPENINGS), ("an unseen form", (SWAP_HELD_OUT,))):
        drawn = [name_swap(rng, rng.choice(openings), True) for _ in range(300)]
        top = model.top([text for text, _, _ in drawn])
        found.append(hits_share(f"name swap, unseen pairs, {name}", [t == model.word(f" {taker}") for t, (_, taker, _) in zip(top, drawn)]))
    rows = [row for row in agreement_labels().rows if row.split == "test"]
    p = model.prefers([str(r.prompt) for r in rows], [r.positive or "" for r in rows], [r.negative or "" for r in rows])
    found.append(hits_share("agreement across an attractor", [x > 0.5 for x in p]))
    spans = [(rng.choice(GREATER_FRAMES).split(" {b}")[0].format(w=rng.choice(EVENTS), a=a), a) for a in range(5, 56)]
    numbers = torch.tensor([model.word(f" {n}") for n in range(61)])
    probs = model.next_log_probs([text for text, _ in spans])[:, numbers].softmax(dim=-1)
    found.append(average("greater-than: probability of a later number", [float(row[a + 1 :].sum()) for row, (_, a) in zip(probs, spans)]))
    return found


@torch.no_grad()
def _induction(model: Model, rng: Random, length: int, n: int = 40) -> list[bool]:
    from workbench.world.train import logits_of

    hits: list[bool] = []
    pool = list(range(1, model.tokenizer.get_vocab_size()))
    for _ in range(n):
        once = [rng.choice(pool) for _ in range(length)]
        ids = torch.tensor([[0, *once, *once]])
        top = logits_of(model.network, ids)[0].argmax(dim=-1)
        hits += [bool(top[length + i] == once[i]) for i in range(1, length)]
    return hits


__all__ = ["Measure", "hits_share", "measured_facts", "opinions", "perplexities", "pronouns", "repeated", "speakers", "structure"]
