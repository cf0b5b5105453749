"""Does an edit held to the heads of a circuit change what the circuit does? Indirect objects ("Mary and John …, John gave a drink to").

    OMP_NUM_THREADS=1 python -m benchmarks.circuit_edit smollm2-135m [--workspace FOLDER] [--edges 100]

The circuit of one pair of prompts is traced; its eight strongest heads are silenced, moved by the mean difference of the answers of many
pairs of names, and by that of two sets of prompts with one pair of names, read at their last token; each beside other heads of the same
layers, drawn at random. Scores are of held-out rows: other names than the fit's, or another sentence. A minute of one processor.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from workbench.data.demonstrations import Demonstration, Demonstrations, Split
from workbench.edits.engine import applied
from workbench.models.base import LanguageModel
from workbench.models.token_texts import one_token
from workbench.session import Session
from workbench.sites import Site

CLEAN = "When Mary and John went to the store, John gave a drink to"
CORRUPT = "When Mary and John went to the store, Mary gave a drink to"
SENTENCES = (
    "When {a} and {b} went to the {place}, {giver} gave a {thing} to",
    "Then {a} and {b} had a long talk at the {place}. After it {giver} handed the {thing} to",
    "While {a} and {b} were at the {place}, {giver} passed a {thing} to",
    "After {a} and {b} came back from the {place}, {giver} offered the {thing} to",
)
PLACES, THINGS = ("store", "park", "school", "office", "garden", "station"), ("drink", "book", "letter", "ring", "basket", "cake")
NAMES: Mapping[Split, tuple[str, ...]] = {
    "fit": ("Mary", "John", "Tom", "Anna", "James", "Sarah", "Paul", "Emma"),
    "test": ("Mark", "Lucy", "David", "Kate", "Peter", "Laura"),
}
ROWS: tuple[tuple[int, Split, int], ...] = ((0, "fit", 24), (2, "test", 40))
"""A seed, a split and how many rows."""
Silent = Callable[[LanguageModel], AbstractContextManager[Any]]


def many_pairs() -> Demonstrations:
    """Rows of all pairs of names; the good answer is who gives nothing. Test rows have other names."""
    found: list[Demonstration] = []
    for seed, split, n in ROWS:
        draw = random.Random(seed)
        for i in range(n):
            a, b = draw.sample(NAMES[split], 2)
            giver = draw.choice((a, b))
            said = {"place": draw.choice(PLACES), "thing": draw.choice(THINGS)}
            prompt = SENTENCES[i % len(SENTENCES)].format(a=a, b=b, giver=giver, **said)
            found.append(Demonstration(prompt, f" {b if giver == a else a}", f" {giver}", split=split, id=f"{split}-{i}"))
    return Demonstrations(tuple(found), "name swaps")


def one_pair(n_fit: int = 16, n_test: int = 12) -> Demonstrations:
    """Two sets of prompts, answered by Mary and by John; test rows, whose answer is John, have a sentence of their own."""
    draw, found = random.Random(3), list[Demonstration]()
    for i in range(n_fit):
        said = {"place": draw.choice(PLACES), "thing": draw.choice(THINGS)} | dict(zip("ab", draw.sample(("Mary", "John"), 2)))
        for giver, label in (("John", "target"), ("Mary", "anti_target")):
            prompt = SENTENCES[i % 3].format(giver=giver, **said)
            found.append(Demonstration(prompt, label=label, split="fit", id=f"fit-{i}-{label}"))
    for i in range(n_test):
        said = {"place": draw.choice(PLACES), "thing": draw.choice(THINGS)} | dict(zip("ab", draw.sample(("Mary", "John"), 2)))
        found.append(Demonstration(SENTENCES[3].format(giver="Mary", **said), " Mary", " John", split="test", id=f"test-{i}"))
    return Demonstrations(tuple(found), "Mary or John")


def silent(heads: Sequence[str]) -> Silent:
    """Zero in place of what heads give, at every token."""
    pairs = [tuple(map(int, head.split("."))) for head in heads]

    def muted(model: LanguageModel) -> AbstractContextManager[Any]:
        return model.intercepts([(Site("head_z", layer, head), torch.zeros_like) for layer, head in pairs])

    return muted


def scored(model: LanguageModel, rows: Demonstrations, edits: Sequence[Any] = (), silence: Silent = lambda _: nullcontext()) -> str:
    """Logit of good less bad with its standard error, how often good wins, and both probabilities: cells of the table."""
    good, bad = (torch.tensor([one_token(model, str(getattr(row, side))) for row in rows]) for side in ("positive", "negative"))
    with torch.no_grad(), applied(model, *edits), silence(model):
        log_p = model.logits(model.tokens(rows.prompts()))[:, -1].double().log_softmax(-1).cpu()
    at = torch.arange(len(rows))
    margin = log_p[at, good] - log_p[at, bad]
    told = f"{margin.mean():+.2f} ± {margin.std() / len(rows) ** 0.5:.2f} | {(margin > 0).double().mean():.2f}"
    return f"{told} | {log_p[at, good].exp().mean():.2f} | {log_p[at, bad].exp().mean():.2f} | {len(rows)}"


def others(heads: Sequence[str], n_heads: int, draw: random.Random) -> list[str]:
    """As many other heads, each of a layer of one of these."""
    found: list[str] = []
    for layer in [head.partition(".")[0] for head in heads]:
        free = [f"{layer}.{j}" for j in range(n_heads) if f"{layer}.{j}" not in (*heads, *found)]
        found.append(draw.choice(free))
    return found


def lines(session: Session, edges: int) -> list[str]:
    """The table, a line at a time."""
    model, draw = session.model, random.Random(0)
    traced = session.look("circuit", CLEAN, CORRUPT, " Mary", " John", n_edges=edges)
    heads = traced.strongest_heads()
    drawn = [others(heads, model.info.n_heads, draw) for _ in range(3)]
    names, (many, one) = ", ".join(heads), (many_pairs(), one_pair())
    told = [f"{edges} edges bring {traced.recovered:.0%} back. Heads: {names}.", ""]
    told += ["| test rows | what is done | good less bad | good wins | p(good) | p(bad) | n |", "|---|---|---|---|---|---|---|"]

    def row(of: Demonstrations, what: str, **how: Any) -> None:
        told.append(f"| {of.name} | {what} | {scored(model, of.split('test'), **how)} |")
        sys.stdout.write(told[-1] + "\n")
        sys.stdout.flush()

    row(many, "nothing")
    row(many, "its heads are silent", silence=silent(heads))
    for i, some in enumerate(drawn):
        row(many, f"as many random heads of these layers, {i + 1}", silence=silent(some))

    def moved(of: Demonstrations, what: str, some: Sequence[str], *doses: float) -> None:
        edit = session.fit("mean_difference", of, {"parts": tuple(some), "read": "last", "strength": 1.0}).edit
        for dose in doses:
            row(of, f"mean difference at {what}, × {dose:g}", edits=[edit.scaled(dose)])

    moved(many, "its heads", heads, 2.0, 8.0)
    row(one, "nothing")
    moved(one, "its heads", heads, 1.0, 2.0)
    for i, some in enumerate(drawn[:2]):
        moved(one, f"as many random heads, {i + 1}", some, 1.0, 2.0)
    return told


def main() -> None:
    """Print the table, each line as it is known, then whole."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--edges", type=int, default=100)
    asked = parser.parse_args()
    from workbench import open_session

    torch.set_num_threads(1)
    sys.stdout.write("\n".join(["", *lines(open_session(asked.model, asked.workspace), asked.edges), ""]))


if __name__ == "__main__":
    main()
