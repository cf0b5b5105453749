"""The labelled prompts of a search: which rows train, which are shown as demonstrations, which tokens are the answers.

Ref: docs/methods/tarot.md §3.1, §3.2. Everything that the unedited model decides (which rows it gets right, its answer tokens, its logits)
is computed once, before the search.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from workbench.conversations import Conversation, Turn, as_chat
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.errors import BadPrompt, NotEnoughData
from workbench.methods.tarot.config import SHOTS, TarotConfig
from workbench.models.base import LanguageModel
from workbench.models.chat import chat_ids
from workbench.models.token_texts import first_token
from workbench.models.tokens import TokenBatch, running
from workbench.shapes import Bool, Float, Int, Tensor

POOL = 20
MAX_LABELS = 20
_AT_ONCE = 64
LEAST_SHARED = 8
"""Fewer tokens than this cost more to run apart than once a prompt."""


@dataclass(frozen=True, eq=False)
class Task:
    """Hold prompts ready to be scored.

    `answers` is the token whose probability counts; `candidates` are the first tokens of the labels that a row chooses among, padded with
    -1; `whole` appends the whole label to the prompt, for the log-likelihood of several tokens; `shown` is how many demonstrations stand
    before each.
    """

    rows: tuple[Demonstration, ...]
    prompts: TokenBatch
    whole: TokenBatch
    answers: Int[Tensor, " row"]
    candidates: Int[Tensor, "row choice"]
    base_logit: Float[Tensor, " row"]
    shown: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, eq=False)
class Chosen:
    """Hold the rows of a fit: training rows (first those answered right), demonstration pool, validation rows."""

    train: tuple[Demonstration, ...]
    pool: tuple[Demonstration, ...]
    validation: tuple[Demonstration, ...]
    n_right: int
    n_wrong: int
    n_asked: int
    """How many answered right, and how many wrong, were asked for."""
    answered: dict[Demonstration, int]


def label_of(row: Demonstration) -> str:
    """Return the right answer of a row: its label, else its positive continuation.

    Raises:
        NotEnoughData: the row has neither.
    """
    answer = row.label or row.positive
    if not answer:
        raise NotEnoughData(f"The demonstration {row.prompt!r} has neither label nor positive.", "Fill the column label.")
    return answer


def labels_of(demonstrations: Demonstrations) -> tuple[str, ...]:
    """Return the distinct labels of the rows to fit, sorted."""
    return tuple(sorted({label_of(row) for row in demonstrations.split("fit")}))


def encoded(model: LanguageModel, text: str, *, special: bool) -> list[int]:
    """Return token ids of a text.

    Raises:
        BadPrompt: the text has no token.
    """
    ids: list[int] = list(model.tokenizer(text, add_special_tokens=special)["input_ids"])
    if not ids:
        raise BadPrompt(f"{text!r} has no tokens.", "Write at least one token.")
    return ids


def shown_ids(model: LanguageModel, config: TarotConfig, row: Demonstration, shots: Sequence[Demonstration]) -> list[int]:
    """Return the token ids of a prompt behind its demonstrations; special tokens are added once, by one of tokenizer and template."""
    if config.template == "chat" or isinstance(row.prompt, Conversation):
        return _chat_ids(model, config, row, shots)
    shown = [f"{shot.prompt}{label_of(shot)}" for shot in shots]
    return encoded(model, config.separator.join([*shown, row.prompt]), special=True)


def shot_counts(config: TarotConfig, n_rows: int, seed: int) -> list[int]:
    """Return how many demonstrations stand before each prompt: one seeded draw a prompt (common random numbers)."""
    choices = SHOTS[config.shots]
    drawn = torch.randint(len(choices), (n_rows,), generator=torch.Generator().manual_seed(seed))
    return [choices[index] for index in drawn.tolist()]


def task_of(
    model: LanguageModel,
    config: TarotConfig,
    rows: Sequence[Demonstration],
    pool: Sequence[Demonstration],
    labels: tuple[str, ...],
    seed: int,
    answered: dict[Demonstration, int] | None = None,
) -> Task:
    """Return rows as a task: prompts with their demonstrations, answer tokens, candidates, and the unedited logits.

    Args:
        answered: the unedited model's zero-shot answer token of rows that it gets right; such a row keeps that token as its answer.

    Raises:
        BadPrompt: a prompt with its demonstrations does not fit the context, or a text has no tokens. NotEnoughData: as `label_of`.
    """
    counts = shot_counts(config, len(rows), seed)
    prompts = [shown_ids(model, config, row, pool[: min(count, len(pool))]) for row, count in zip(rows, counts)]
    ends = [encoded(model, label_of(row), special=False) for row in rows]
    longest, room = max(len(p) + len(e) for p, e in zip(prompts, ends)), model.info.n_ctx
    if longest > room:
        raise BadPrompt(f"A prompt with its demonstrations is {longest} tokens long; the context holds {room}.", "Lower shots.")
    lengths = [len(ids) for ids in prompts]
    short = TokenBatch.of(prompts, lengths, model.device)
    whole = TokenBatch.of([p + e for p, e in zip(prompts, ends)], lengths, model.device)
    known = answered or {}
    answers = torch.tensor([known.get(row, end[0]) for row, end in zip(rows, ends)], device=model.device)
    task = Task(tuple(rows), short, whole, answers, _candidates(model, rows, labels, answers), torch.zeros(len(rows)), tuple(counts))
    base = torch.cat([last_logits(model, short.rows(slice(at, at + _AT_ONCE))) for at in range(0, len(rows), _AT_ONCE)])
    return replace(task, base_logit=base.gather(1, answers[:, None])[:, 0])


def beginnings(task: Task) -> list[int]:
    """How many tokens each prompt begins with like all others behind as many demonstrations; all of them where it is too few to matter."""
    prompts, found = task.prompts.real_ids, task.prompts.lengths.tolist()
    for n in set(task.shown):
        rows = [row for row, shown in enumerate(task.shown) if shown == n]
        shared = len(os.path.commonprefix([prompts[row] for row in rows]))
        if len(rows) > 1 and LEAST_SHARED <= shared < min(found[row] for row in rows):
            found = [shared if shown == n else length for shown, length in zip(task.shown, found)]
    return found


def last_logits(model: LanguageModel, batch: TokenBatch) -> Float[Tensor, "row d_vocab"]:
    """Return the logits behind the last token of each row, in float32 at least."""
    with torch.no_grad(), running(batch.forward()):
        logits = model.run(batch, last_only=True)[0][:, -1]
    return logits if logits.dtype == torch.float64 else logits.float()


def decided(task: Task, logits: Float[Tensor, "... row d_vocab"], answers: str) -> Int[Tensor, "... row"]:
    """Return the token that a forward answers with: among all tokens, or among the row's candidates."""
    return (logits if answers == "vocabulary" else masked_to(logits, task.candidates)).argmax(-1)


def masked_to(logits: Float[Tensor, "*lead row d_vocab"], candidates: Int[Tensor, "row choice"]) -> Float[Tensor, "*lead row d_vocab"]:
    """Return the logits with everything but each row's candidates at minus infinity."""
    allowed = torch.zeros(candidates.shape[0], logits.shape[-1] + 1, dtype=torch.bool, device=logits.device)
    allowed.scatter_(1, torch.where(candidates < 0, logits.shape[-1], candidates), True)
    return logits.masked_fill(~allowed[:, :-1], -torch.inf)


def chosen_rows(model: LanguageModel, demonstrations: Demonstrations, config: TarotConfig, seed: int) -> Chosen:
    """Return the rows of a fit: the first N/2 answered right and the first N/2 answered wrong zero-shot, then pool and validation.

    Law: train, pool and validation are disjoint; rows of split `test` are never looked at. With fewer right or wrong rows than N/2
    there are fewer training rows, and `n_right`, `n_wrong` say so. Differs: N is 40 (the paper: 20), less in a small set, so that as many
    rows are left as are shown before a prompt, but never below 4.

    Raises:
        NotEnoughData: no row to train on.
    """
    fit_rows = _shuffled(demonstrations.split("fit").rows, seed)
    labels = labels_of(demonstrations)
    zero = replace(config, shots="zero")
    right: dict[Demonstration, int] = {}
    for start in range(0, len(fit_rows), _AT_ONCE):
        part = fit_rows[start : start + _AT_ONCE]
        task = task_of(model, zero, part, (), labels, seed)
        tokens = decided(task, last_logits(model, task.prompts), config.answers)
        right |= {row: int(token) for row, token, ok in zip(part, tokens, correct(model, task, tokens)) if ok}
    # Prompts that are shown before others are never trained on: some are left over for that.
    half = min(config.n_train, max(4, len(fit_rows) - max(SHOTS[config.shots]))) // 2
    good = [row for row in fit_rows if row in right][:half]
    bad = [row for row in fit_rows if row not in right][:half]
    train = (*good, *bad)
    if not train:
        raise NotEnoughData("There is no demonstration to train on.", "Add rows of split fit.")
    rest = [row for row in fit_rows if row not in set(train)]
    validation = _shuffled(demonstrations.split("validation").rows, seed + 1)[: config.n_val]
    return Chosen(train, tuple(rest[:POOL]), tuple(validation), len(good), len(bad), half, right)


def correct(model: LanguageModel, task: Task, tokens: Int[Tensor, " row"]) -> Bool[Tensor, " row"]:
    """Whether each decided token is right: its id is the label's first, or its text equals the label, case and space folded."""
    firsts = [encoded(model, label_of(row), special=False)[0] for row in task.rows]
    texts = [str(model.tokenizer.decode([int(token)])) for token in tokens]
    same: Callable[[str, str], bool] = lambda a, b: a.strip().casefold() == b.strip().casefold()  # noqa: E731
    return torch.tensor(
        [int(token) == first or same(text, label_of(row)) for token, first, text, row in zip(tokens, firsts, texts, task.rows)]
    )


def _shuffled(rows: Sequence[Demonstration], seed: int) -> list[Demonstration]:
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).tolist()
    return [rows[index] for index in order]


def _candidates(
    model: LanguageModel, rows: Sequence[Demonstration], labels: tuple[str, ...], answers: Int[Tensor, " row"]
) -> Int[Tensor, "row choice"]:
    shared = [first_token(model, label) for label in labels] if len(labels) <= MAX_LABELS else []
    found: list[list[int]] = []
    for row, answer in zip(rows, answers.tolist()):
        own = [first_token(model, row.negative)] if row.negative else []
        found.append(list(dict.fromkeys([answer, *(own or shared)])))
    width = max(len(ids) for ids in found)
    padded = [ids + [-1] * (width - len(ids)) for ids in found]
    return torch.tensor(padded, device=answers.device)


def _chat_ids(model: LanguageModel, config: TarotConfig, row: Demonstration, shots: Sequence[Demonstration]) -> list[int]:
    asked = as_chat(row.prompt)
    earlier = [
        turn for shot in shots for turn in (*as_chat(shot.prompt).with_system(None).turns, Turn("assistant", label_of(shot).strip()))
    ]
    talk = replace(asked, turns=(*earlier, *asked.with_system(None).turns))
    system = asked.system or (config.instruction if config.template == "chat" else None)
    try:
        return chat_ids(model.tokenizer, talk.with_system(system))
    except BadPrompt:
        if not system:
            raise
    # Some templates reject a system role: what it says then opens the first user turn.
    first, *rest = talk.turns
    return chat_ids(model.tokenizer, replace(talk, turns=(Turn("user", f"{system}\n\n{first.text}"), *rest)))
