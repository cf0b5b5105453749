"""Does a method with its defaults leave the model able to speak? What every default has to keep, on whatever model.

    python -m benchmarks.defaults --model embedded
    python -m benchmarks.defaults --model smollm2-135m --methods sea mean_difference --rows 12

Each method is fitted with its defaults on a set of its kind: of the battery's tasks on a model that reads English, of the embedded world's
on others. Then four numbers, and whether they hold:

- KL(unedited ‖ edited), nats a token, on shipped neutral text (`methods.shared.ground`): at most .1;
- loops: of 20 greedy answers of 60 tokens, those that say some four tokens in a row three times: no more than the unedited model's. Both
  are told: where the unedited answer does not loop (new) and where it does and the edited one does not (gone). A model that loops by itself
  loops elsewhere as soon as a word changes: a random edit has new ones too, so new ones alone would measure the model;
- distinct-2 of these answers, pairs of tokens that differ over all pairs, as a share of the unedited model's: within 10 %;
- how much less likely, a token, the edited answers are to the unedited model than its own: at most .5 nats.

Beside them stand the loops, new and gone, and distinct-2 of a random rotation of the edit.

A method that hands nothing back keeps the model as it is, and says so.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.battery import task
from workbench.conversations import Conversation, Prompt, Turn
from workbench.data.demonstrations import Demonstrations
from workbench.data.passages import passages
from workbench.data.sources import read
from workbench.decode import Sampling, generate
from workbench.edits.base import Edit
from workbench.edits.placebo import rotated
from workbench.errors import RetouchError
from workbench.methods import get, names
from workbench.methods.shared.ground import ground_of, reads_passages
from workbench.methods.shared.validation import neutral_kl
from workbench.models.base import LanguageModel
from workbench.models.catalog import load
from workbench.models.chat import has_template
from workbench.models.tokens import TokenBatch, prompt_ids
from workbench.resources import SETS
from workbench.score import batch_scores

N_ANSWERS, N_TOKENS = 20, 60
MOST_KL, MOST_SPREAD, MOST_UNLIKELY = 0.1, 0.1, 0.5
KINDS = {
    "contrast": ("mood", "truthfulness"),
    "concept": ("declining", "refusal"),
    "label": ("sentiment", "sentiment"),
    "canonical": ("new-facts", "new-facts"),
}
"""The set of each kind: of the battery, and of the embedded world."""


def rows_for(model: LanguageModel, kind: str, cap: int) -> Demonstrations:
    """A set of a kind that the model can read, at most `cap` rows to fit."""
    real, own = KINDS[kind]
    rows = task(real, model, 1).rows if reads_passages(model) else read(SETS / f"{own}.jsonl").demonstrations
    fit = rows.split("fit")
    step = max(1, len(fit) // cap)
    kept = {row for i, row in enumerate(fit) if i % step == 0}
    return rows.where(lambda row: row.split != "fit" or row in kept)


def asked(model: LanguageModel) -> list[Prompt]:
    """Twenty questions as conversations where the model has a template, else beginnings of texts."""
    shipped = passages()
    if has_template(model.tokenizer):
        return [Conversation((Turn("user", question),)) for question, _ in shipped.chats[:N_ANSWERS]]
    if reads_passages(model):
        return [" ".join(text.split()[:6]) for text in shipped.held[:N_ANSWERS]]
    texts = [row.prompt for row in read(SETS / "neutral.jsonl").demonstrations.split("test")]
    return [" ".join(str(text).split()[:6]) for text in texts[:N_ANSWERS]]


def loops(answers: Sequence[Sequence[int]], base: Sequence[Sequence[int]]) -> int:
    """Answers that say four tokens in a row three times where the unedited answer does not."""

    def has(ids: Sequence[int]) -> bool:
        return max(Counter(zip(ids, ids[1:], ids[2:], ids[3:])).values(), default=0) >= 3

    return sum(has(mine) and not has(theirs) for mine, theirs in zip(answers, base))


def distinct_2(answers: Sequence[Sequence[int]]) -> float:
    """Different pairs of neighbouring tokens over all pairs."""
    pairs = [pair for ids in answers for pair in zip(ids, ids[1:])]
    return len(set(pairs)) / max(1, len(pairs))


def nats_a_token(model: LanguageModel, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]) -> float:
    """Mean −log p of some answers under the unedited model; answers of no token do not count."""
    said = [(prompt_ids(model.tokenizer, prompt), list(ids)) for prompt, ids in zip(prompts, answers) if ids]
    batch = TokenBatch.of([[*before, *ids] for before, ids in said], [len(before) for before, _ in said], model.device)
    scores = batch_scores(model, batch)
    return -float(scores.total.double().sum() / scores.n_tokens.sum())


class Bench:
    """A model's ground, prompts and own answers, made once."""

    def __init__(self, model: LanguageModel) -> None:
        self.model, self.prompts = model, asked(model)
        self.ground = ground_of(model, rows_for(model, "contrast", 12), 0)
        self.own = self._answers(())
        self.own_nats = nats_a_token(model, self.prompts, self.own)

    def _answers(self, stack: tuple[Edit, ...]) -> list[tuple[int, ...]]:
        (found,) = generate(self.model, self.prompts, [stack], Sampling(max_new_tokens=min(N_TOKENS, self.model.info.n_ctx // 2)))
        return [one.ids for one in found]

    def measured(self, edit: Edit) -> dict[str, float]:
        """The four numbers of an edit."""
        said = self._answers((edit,))
        return {
            "KL": float(neutral_kl(self.model, [(edit,)], self.ground)[0]),
            "loops": float(loops(said, self.own)),
            "gone": float(loops(self.own, said)),
            "distinct-2": distinct_2(said) / distinct_2(self.own),
            "less likely": nats_a_token(self.model, self.prompts, said) - self.own_nats,
        }


def holds(found: dict[str, float]) -> bool:
    """Whether all four limits are kept."""
    spread = abs(found["distinct-2"] - 1) <= MOST_SPREAD
    return found["KL"] <= MOST_KL and found["loops"] <= found["gone"] and spread and found["less likely"] <= MOST_UNLIKELY


def row_of(bench: Bench, name: str, cap: int, knobs: dict[str, Any]) -> str:
    """One line of the table."""
    method, start = get(name), time.process_time()
    rows = rows_for(bench.model, method.needs.task, cap)
    try:
        edit = method.fit(bench.model, rows, method.configure(knobs), seed=0).edit
    except RetouchError as error:
        return f"| {name} | {rows.name} | {time.process_time() - start:.0f} | | | | | | | | nothing handed back: {str(error)[:90]} |"
    seconds, found, noise = time.process_time() - start, bench.measured(edit), bench.measured(rotated(edit, 0))
    loop, random = (f"{one['loops']:.0f}, {one['gone']:.0f} | {one['distinct-2']:.2f}" for one in (found, noise))
    numbers = f"{found['KL']:.4f} | {loop} | {found['less likely']:+.2f} | {noise['KL']:.4f} | {random}"
    return f"| {name} | {rows.name} | {seconds:.0f} | {numbers} | {'holds' if holds(found) else 'DOES NOT HOLD'} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--methods", nargs="*", choices=names(), default=names())
    parser.add_argument("--rows", type=int, default=40, help="rows to fit on, at most about so many")
    parser.add_argument("--set", nargs="*", default=[], help="knobs instead of defaults, NAME=VALUE")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    model = load(given.model)
    bench = Bench(model)
    print(f"\n{model.info.name}: {bench.ground.source}; {N_ANSWERS} greedy answers, {loops(bench.own, [()] * N_ANSWERS)} loop\n")
    head = ("method", "set", "fit, processor s", "KL", "loops new, gone", "distinct-2, share of base")
    head += ("less likely, nats a token", "random edit: KL", "loops new, gone", "distinct-2", "limits")
    print("| " + " | ".join(head) + " |", "|" + "---|" * len(head), sep="\n", flush=True)
    for name in given.methods:
        if not get(name).obstacles_of(model):
            print(row_of(bench, name, given.rows, dict(one.split("=", 1) for one in given.set)), flush=True)


if __name__ == "__main__":
    main()
