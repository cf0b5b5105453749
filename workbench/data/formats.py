"""The layouts that Retouch knows, each recognised by its columns and turned into demonstrations row by row.

Answers become continuations with a leading space. References beyond the one pair that a row holds stay as `true:…` and
`false:…` tags, what belongs together when splits are drawn as `question:…` or `entity:…`. A choice among several wrong
answers is seeded by file, line and seed: the same file gives the same demonstrations.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from workbench.data.chats import messages, preferences, talk_of
from workbench.data.demonstrations import COLUMNS, Demonstration
from workbench.data.reading import BARE
from workbench.data.rows import BadRow, Context, Values, continuation, distinct, list_of, object_of, split_of, text_of

_LOSSES = ("good", "bad", "balance", "good-v-bad")


@dataclass(frozen=True)
class Format:
    """A layout: which columns give it away, and how a record becomes a demonstration."""

    name: str
    title: str
    columns: tuple[frozenset[str], ...]
    convert: Callable[[Values, Context], Demonstration]

    def fits(self, columns: set[str]) -> bool:
        """Whether these columns give the layout away."""
        return any(needed <= columns for needed in self.columns)


def recognised(values: Values) -> Format | None:
    """Return the first format whose columns a record has, None for an unknown layout."""
    return next((item for item in FORMATS if item.fits(set(values))), None)


def _own(values: Values, context: Context) -> Demonstration:
    given = values.get("prompt")
    texts: dict[str, Any] = {"prompt": talk_of(given) if isinstance(given, list) else text_of(values, "prompt")}
    for column in ("positive", "negative", "neutral", "label", "loss", "id"):
        value = values.get(column)
        if isinstance(value, (int, float)) and column in ("id", "label"):
            value = str(value)
        if value is not None and not isinstance(value, str):
            raise BadRow(f"has a {type(value).__name__} as {column}.", f"Give {column} a text, or leave it out.")
        texts[column] = value or None
    texts["id"] = texts["id"] or ""
    if texts["loss"] is not None and texts["loss"] not in _LOSSES:
        raise BadRow(f"has the loss {texts['loss']!r}.", f"Use one of {', '.join(_LOSSES)}.")
    return Demonstration(**texts, tags=tags_of(values.get("tags")), split=split_of(values.get("split")))


def tags_of(value: Any) -> tuple[str, ...]:
    """Tags as a list, as the JSON of one, or in one text with ; between.

    Raises:
        BadRow: something else.
    """
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "it is nested too deeply"
            what = f"has tags that are not a JSON list: {reason}."
            raise BadRow(what, "Write tags with ; between them.") from error
    if isinstance(value, str):
        return tuple(tag.strip() for tag in value.split(";") if tag.strip())
    if value is None or isinstance(value, list) and all(isinstance(tag, str) for tag in value):
        return tuple(value or ())
    raise BadRow("has tags that are not texts.", 'Write tags as a list of texts, for example ["topic:animals"].')


def _question(
    prompt: str,
    true: Sequence[str],
    false: Sequence[str],
    context: Context,
    tags: Sequence[str] = (),
    best: str | None = None,
) -> Demonstration:
    """A question with references: the best true answer against one false answer, all of them as tags."""
    rights, wrongs = distinct(true), [text for text in distinct(false) if text not in true]
    if not rights or not wrongs:
        raise BadRow(f"has {len(rights)} right and {len(wrongs)} wrong answers.", "Give at least one of each.")
    references = [f"true:{text}" for text in rights] + [f"false:{text}" for text in wrongs]
    negative = continuation(context.pick(wrongs))
    return Demonstration(prompt, continuation(best or rights[0]), negative, tags=(*tags, *references))


def _asked(question: str) -> str:
    return f"Q: {question.strip()}\nA:"


def _truthful_qa(values: Values, context: Context) -> Demonstration:
    question, best = text_of(values, "Question"), text_of(values, "Best Answer").strip()
    true = [best, *text_of(values, "Correct Answers").split(";")]
    tags = [f"question:{question.strip()}"] + [f"category:{name}" for name in [values.get("Category")] if name]
    return _question(_asked(question), true, text_of(values, "Incorrect Answers").split(";"), context, tags, best)


def _truthful_qa_hub(values: Values, context: Context) -> Demonstration:
    question, best = text_of(values, "question"), text_of(values, "best_answer").strip()
    tags = [f"question:{question.strip()}"] + [f"category:{name}" for name in [values.get("category")] if name]
    true = [best, *list_of(values, "correct_answers")]
    return _question(_asked(question), true, list_of(values, "incorrect_answers"), context, tags, best)


def _bbq(values: Values, context: Context) -> Demonstration:
    choices = [text_of(values, f"ans{i}") for i in range(3)]
    label = values.get("label")
    if label not in (0, 1, 2, "0", "1", "2"):
        raise BadRow(f"has the label {label!r}.", "The label is the number of the right option: 0, 1 or 2.")
    right = int(label)
    wrong = [text for i, text in enumerate(choices) if i != right]
    category, index = str(values.get("category", "")), str(values.get("question_index", ""))
    tags = [f"question:{category} {index}", f"category:{category}", f"condition:{values.get('context_condition', '')}"]
    tags += [f"polarity:{values.get('question_polarity', '')}", *_bbq_roles(values, choices)]
    prompt = f"{text_of(values, 'context').strip()}\n{_asked(text_of(values, 'question'))}"
    return _question(prompt, [choices[right]], wrong, context, tags)


def _bbq_roles(values: Values, choices: list[str]) -> list[str]:
    """Which option is "unknown", and which a stereotype would choose: the stereotyped group if asked negatively."""
    info = object_of(values, "answer_info")
    groups = [str((info.get(f"ans{i}") or ["", ""])[-1]) for i in range(3)]
    named = object_of(values, "additional_metadata").get("stereotyped_groups") or []
    stereotyped = {str(name).casefold() for name in named}
    roles = [f"unknown:{text}" for text, group in zip(choices, groups) if group == "unknown"]
    people = [(text, group.casefold() in stereotyped) for text, group in zip(choices, groups) if group != "unknown"]
    expected = values.get("question_polarity") == "neg"
    biased = [text for text, is_stereotyped in people if is_stereotyped == expected]
    return roles + [f"biased:{text}" for text in biased if len(biased) == 1]


def _stereoset(values: Values, context: Context) -> Demonstration:
    texts = _stereoset_sentences(values["sentences"] if isinstance(values["sentences"], dict) else list_of(values, "sentences"))
    prompt = text_of(values, "context")
    tags = [f"entity:{values.get('target', '')}", f"category:{values.get('bias_type', '')}"]
    if "BLANK" in prompt:
        before, after = prompt.split("BLANK", 1)
        if not before.strip():
            raise BadRow("has its blank at the start, so there is no prompt.", "Leave the row out, or rephrase it.")
        filled = {name: text[len(before) : len(text) - len(after)] for name, text in texts.items()}
        if not all(text.startswith(before) and text.endswith(after) for text in texts.values()):
            raise BadRow("has sentences unlike its context outside the blank.", "Leave the row out, or repair it.")
        prompt, texts = before.rstrip(), filled
    tags += [f"unrelated:{texts['unrelated']}"] if "unrelated" in texts else []
    return Demonstration(prompt, continuation(texts["anti-stereotype"]), continuation(texts["stereotype"]), tags=tuple(tags))


def _stereoset_sentences(value: Any) -> dict[str, str]:
    names = ("anti-stereotype", "stereotype", "unrelated")
    if isinstance(value, dict):
        pairs = list(zip(value.get("gold_label", []), value.get("sentence", [])))
    else:
        pairs = [(item.get("gold_label"), item.get("sentence")) for item in value if isinstance(item, dict)]
    texts = {names[label] if label in (0, 1, 2) else str(label): str(text) for label, text in pairs}
    if not {"anti-stereotype", "stereotype"} <= set(texts):
        raise BadRow("has no pair of stereotype and anti-stereotype.", "Give one sentence of each gold_label.")
    return texts


# Folder or file stem → task, loss and threshold in nats (docs/methods/senses.md §2.1).
_TASKS = {
    "country": ("good", 1.6094),
    "company": ("good", 2.9957),
    "temporal": ("good", 2.9957),
    "gender": ("balance", 0.4055),
    "pronoun": ("balance", 0.4055),
    "verb": ("good-v-bad", -2.7726),
    "stereoset": ("bad", -6.9078),
}


def _canonical(values: Values, context: Context) -> Demonstration:
    stem = context.stem.lower()
    task = next((name for name in _TASKS if stem.startswith(name)), None)
    role = "hard_negatives" if "hard_neg" in stem else "evaluation" if "eval" in stem else "train"
    loss, delta = _TASKS.get(task or "", ("good-v-bad" if "suffix1" in values else "good", None))
    loss = values.get("loss") or ("good" if role == "hard_negatives" else loss)
    if loss not in _LOSSES:
        raise BadRow(f"has the loss {loss!r}.", f"Use one of {', '.join(_LOSSES)}.")
    if "suffix1" in values:
        positive, negative = text_of(values, "suffix1"), text_of(values, "suffix2")
    else:
        suffix = text_of(values, "suffix")
        positive, negative = (None, suffix) if loss == "bad" else (suffix, None)
    tags = [f"role:{role}"] + ([f"task:{task}", f"delta:{delta}"] if task else [])
    pair = "test" if stem.endswith("-test") else "validation" if stem.endswith("-val") else values.get("split")
    return Demonstration(text_of(values, "prefix"), positive, negative, loss=str(loss), tags=tuple(tags), split=split_of(pair))


def _statement(values: Values, context: Context) -> Demonstration:
    label = str(values.get("label", "")).strip().lower()
    words = {"1": "target", "true": "target", "0": "anti_target", "false": "anti_target"}
    if label not in words:
        raise BadRow(f"has the label {label!r}.", "Write 1 or true, 0 or false.")
    side = words[label]
    return Demonstration(text_of(values, "statement").strip(), label=side, tags=(f"class:{side}",))


def _concept(values: Values, context: Context) -> Demonstration:
    return Demonstration(text_of(values, BARE).strip(), tags=(f"concept:{context.stem}",))


def _general(values: Values, context: Context) -> Demonstration:
    return Demonstration(text_of(values, "text"), tags=("role:general",))


def _task(values: Values, context: Context) -> Demonstration:
    """BIG-bench in its spellings: options in multiple_choice_targets, in target_scores, or as a list in the text."""
    question = text_of(values, "inputs" if "inputs" in values else "input").strip()
    target = values.get("targets", values.get("target"))
    options = [str(item) for item in list_of(values, "multiple_choice_targets")]
    scores = list_of(values, "multiple_choice_scores")
    if weighed := object_of(values, "target_scores"):
        options, scores = list(weighed), list(weighed.values())
    options = options or [line[2:] for line in question.split("\n") if line.startswith("- ")]
    rights = [text for text, score in zip(options, scores) if score] if scores else []
    rights = rights or [str(item) for item in (target if isinstance(target, list) else [target]) if item is not None]
    if not rights:
        raise BadRow("has no target.", "Give target a text.")
    prompt = question if question.endswith(":") else question + "\nA:"
    wrongs = [text for text in distinct(options) if text not in rights]
    label = continuation(rights[0])
    if wrongs:
        return replace(_question(prompt, rights, wrongs, context), label=label)
    return Demonstration(prompt, label, label=label, tags=tuple(f"true:{text}" for text in distinct(rights)))


def _sets(*columns: str) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(item.split("+")) for item in columns)


FORMATS: tuple[Format, ...] = (
    # First: such sets often have a column `prompt` beside.
    Format("preferences", "Chosen and rejected answers", _sets("chosen+rejected"), preferences),
    Format("messages", "Conversations", _sets("messages", "conversations"), messages),
    Format("retouch", "Retouch demonstrations", _sets("prompt"), _own),
    Format("truthfulqa", "TruthfulQA", _sets("Question+Best Answer+Correct Answers+Incorrect Answers"), _truthful_qa),
    Format("truthfulqa-hub", "TruthfulQA (hub)", _sets("question+best_answer+incorrect_answers"), _truthful_qa_hub),
    Format("bbq", "BBQ", _sets("context+question+ans0+ans1+ans2+label"), _bbq),
    Format("stereoset", "StereoSet", _sets("context+sentences"), _stereoset),
    Format("canonical", "Canonical examples", _sets("prefix+suffix", "prefix+suffix1+suffix2"), _canonical),
    Format("statements", "Statements with labels", _sets("statement+label"), _statement),
    Format("bigbench", "BIG-bench", _sets("inputs+targets", "input+target", "input+target_scores"), _task),
    Format("texts", "Plain texts", _sets("text"), _general),
    Format("concept", "Concept prompts", (frozenset({BARE}),), _concept),
)
OWN_COLUMNS = frozenset(COLUMNS)
