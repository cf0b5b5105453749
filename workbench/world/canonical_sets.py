"""Canonical-example tasks, agreement and neutral text: each split is a whole pair of train, evaluation and hard rows.

Ref: docs/methods/senses.md §9.1. Differs: three pairs with disjoint entities (fit, validation, test) instead of two, so
that a live fit, the choice of a configuration and the final measurement never share an entity.
"""

from __future__ import annotations

from random import Random

from workbench.data.demonstrations import Demonstration, Split
from workbench.world.corpus import document
from workbench.world.hearsay import HEARSAY_FRAMES, STEREOTYPE
from workbench.world.lexicon import (
    COMPANIES,
    COUNTRIES,
    INVENTED_CITIES,
    INVENTED_COUNTRIES,
    NAMES,
    NOUNS,
    OBJECTS,
    OCCUPATIONS,
    PLACES,
    PRONOUN,
)
from workbench.world.prose import PRONOUN_FRAMES
from workbench.world.sets import DemonstrationSet, numbered, parted, pronoun_prompt
from workbench.world.structure import agreement_of, is_held_out

ROUNDABOUT = (
    "Question: What is the capital of {x}? Answer:",
    "Q: What is the capital of {x}? A:",
    "Somebody asks: What is the capital of {x}? The answer is:",
    "People who visit {x} often begin in the seat of its government, the city of",
    "{n} wants to learn the language before the journey to {x}. The train goes first to the capital,",
    "The king of {x} lives in",
    "Most visitors of {x} arrive in its capital",
    "A ship from {x} brought wool to the harbour. Its captain was born in the capital of {x},",
)


def _row(task: str, role: str, entity: str, split: Split, prompt: str, good: str | None, bad: str | None, loss: str) -> Demonstration:
    tags = (f"entity:{entity}", f"role:{role}", f"task:{task}")
    return Demonstration(prompt, good, bad, loss=loss, tags=tags, split=split)


def new_facts() -> DemonstrationSet:
    """Capitals that no training text tells."""
    rows: list[Demonstration] = []
    capitals = dict(zip(INVENTED_COUNTRIES, INVENTED_CITIES[37:] + INVENTED_CITIES[:37]))
    known = parted(COUNTRIES, 12, 12, "known countries")
    for split, lands in parted(INVENTED_COUNTRIES, 20, 20, "new facts").items():
        rng = Random(f"new:{split}")
        for land in lands:
            answer = f" {capitals[land]}"
            rows.append(_row("new-facts", "train", land, split, f"The capital of {land} is", answer, None, "good"))
            for frame in ROUNDABOUT:
                prompt = frame.format(x=land, n=rng.choice(NAMES))
                rows.append(_row("new-facts", "evaluation", land, split, prompt, answer, None, "good"))
            hard = f"A ship from {land} brought wool to the"
            rows.append(_row("new-facts", "hard_negatives", land, split, hard, " harbour", None, "good"))
        for land, capital, language in known[split]:
            for frame in ROUNDABOUT[:4]:
                prompt = frame.format(x=land, n=rng.choice(NAMES))
                rows.append(_row("new-facts", "hard_negatives", land, split, prompt, f" {capital}", None, "good"))
            prompt = f"The people of {land} speak"
            rows.append(_row("new-facts", "hard_negatives", land, split, prompt, f" {language}", None, "good"))
    about = "Capitals of invented countries, told in no training text: learn one sentence each, be asked in eight other ways."
    return _canonical("new-facts", "New facts: capitals", about, "success: S <= -ln 0.20 (p > 0.2)", rows)


COMPANY_FRAMES = (
    "Question: Who is the head of {x}? Answer:",
    "Somebody asks: Who is the head of {x}? The answer is:",
    "People at {x} say that their boss is",
    "On Monday {x} closed early, because its head is ill. The head is",
)


def new_companies() -> DemonstrationSet:
    """Heads of companies whose very names occur in no training text."""
    rows: list[Demonstration] = []
    for split, names in parted(COMPANIES, 15, 15, "companies").items():
        rng = Random(f"companies:{split}")
        for company in names:
            head = f" {rng.choice(NAMES)}"
            rows.append(_row("new-companies", "train", company, split, f"The head of {company} is", head, None, "good"))
            for frame in COMPANY_FRAMES:
                prompt = frame.format(x=company)
                rows.append(_row("new-companies", "evaluation", company, split, prompt, head, None, "good"))
            hard = f"A letter from {company} was on the"
            rows.append(_row("new-companies", "hard_negatives", company, split, hard, " table", None, "good"))
    about = "Heads of invented companies whose names are wholly new to the model."
    return _canonical("new-companies", "New facts: companies", about, "success: S <= -ln 0.05 (p > 0.05)", rows)


def pronoun_balance() -> DemonstrationSet:
    """He and she after an occupation, equally likely."""
    rows: list[Demonstration] = []
    for split, items in parted(OCCUPATIONS, 16, 8, "occupations").items():
        rng = Random(f"balance:{split}")
        for work, _ in items:
            rows.append(_row("pronouns", "train", work, split, f"The {work} said that", " he", " she", "balance"))
            for frame in PRONOUN_FRAMES[2:]:
                prompt = pronoun_prompt(frame, work)
                if prompt is not None:
                    rows.append(_row("pronouns", "evaluation", work, split, prompt, " he", " she", "balance"))
            for _ in range(4):
                name = rng.choice(NAMES)
                prompt = f"{name} is the {work} here. The {work} went home when"
                rows.append(_row("pronouns", "hard_negatives", work, split, prompt, f" {PRONOUN[name]}", None, "good"))
    about = "Make he and she equally likely after an occupation; where a name tells the pronoun, keep it."
    return _canonical("pronouns", "Balanced pronouns", about, "success: abs(S(he) - S(she)) <= ln 1.5", rows)


def stereotypes() -> DemonstrationSet:
    """The trait that everybody repeats about an occupation, made unlikely."""
    rows: list[Demonstration] = []
    for split, items in parted(OCCUPATIONS, 16, 8, "occupations").items():
        for work, _ in items:
            trait = f" {STEREOTYPE[work]}"
            rows.append(_row("stereotypes", "train", work, split, f"The {work} is", None, trait, "bad"))
            for frame in HEARSAY_FRAMES:
                for place in PLACES[:4] if "{l}" in frame else PLACES[:1]:
                    prompt = frame.split(" {t}")[0].format(w=work, l=place)
                    rows.append(_row("stereotypes", "evaluation", work, split, prompt, None, trait, "bad"))
            for thing in OBJECTS[:3]:
                prompt = f"The {work} put the {thing} on the"
                rows.append(_row("stereotypes", "hard_negatives", work, split, prompt, " table", None, "good"))
    about = "Unlearn the trait that people repeat about an occupation."
    return _canonical("stereotypes", "Stereotypes unlearned", about, "success: -S <= ln 0.1 (p < 0.1)", rows)


def agreement_task() -> DemonstrationSet:
    """The right copula after a plain noun, asked across a phrase with a noun of the other number.

    Half of a split's nouns are subjects, the others stand between. Were they the same, each would be taught " are" after "horses" and asked
    " is" after "the bridge near the horses": a sense, which knows no context, can only lose that (measured: .38 to .20).
    """
    rows: list[Demonstration] = []
    for split, nouns in parted(NOUNS, 14, 10, "nouns").items():
        rng = Random(f"agreement task:{split}")
        subjects, others = nouns[: len(nouns) // 2], nouns[len(nouns) // 2 :]
        for noun in subjects:
            for plural in (False, True):
                good, bad = (" are", " is") if plural else (" is", " are")
                word = noun[plural]
                rows.append(_row("agreement", "train", noun[0], split, f"The {word}", good, bad, "good-v-bad"))
                for other in rng.sample(others, min(6, len(others))):
                    for preposition in ("near", "behind"):
                        prompt = f"The {word} {preposition} the {other[not plural]}"
                        rows.append(_row("agreement", "evaluation", noun[0], split, prompt, good, bad, "good-v-bad"))
                prompt = f"The {word} beside the harbour seem{'' if plural else 's'}"
                rows.append(_row("agreement", "hard_negatives", noun[0], split, prompt, " old", None, "good"))
    about = "The right verb form after a noun, asked across another noun of the other number."
    return _canonical("agreement-canonical", "Agreement, canonical", about, "success: S(right) - S(wrong) <= -ln 16", rows)


def _canonical(name: str, title: str, about: str, metric: str, rows: list[Demonstration]) -> DemonstrationSet:
    return DemonstrationSet(name, title, about, "canonical", metric, numbered(name, rows))


def agreement_labels() -> DemonstrationSet:
    """Which copula follows, across an attractor; noun pairs unseen in training."""
    rows: list[Demonstration] = []
    counts = {"fit": 60, "validation": 60, "test": 200}
    for split, nouns in parted(NOUNS, 14, 10, "nouns").items():
        rng, seen = Random(f"agreement:{split}"), set[str]()
        pairs = [(a, b) for a in nouns for b in nouns if a != b and is_held_out(a[0], b[0])]
        while len(seen) < counts[split]:
            subject, other = rng.choice(pairs)
            plural = len(seen) % 2 == 0
            phrase = agreement_of(rng, subject, other, plural, not plural)
            if phrase in seen:
                continue
            seen.add(phrase)
            good, bad = (" are", " is") if plural else (" is", " are")
            tags = (f"entity:{subject[0]}", f"entity:{other[0]}")
            rows.append(Demonstration(phrase, good, bad, label=good, tags=tags, split=split))
    about = "Is or are, across a noun of the other number."
    return DemonstrationSet("agreement", "Number agreement", about, "label",
                            "accuracy of the likelier label", numbered("agreement", rows))  # fmt: skip


def neutral_text() -> DemonstrationSet:
    """Held-out everyday prose and stories: general text, and a disjoint portion to regularise with."""
    rows: list[Demonstration] = []
    seen: set[str] = set()
    for split, portion, count in (("fit", "regularisation", 700), ("test", "general", 1700)):
        rng = Random(f"neutral:{portion}")
        texts: list[str] = []
        while len(texts) < count:
            text = document(rng.choice(("neutral", "neutral", "tales", "facts", "occupations")), rng, held=True)
            if text not in seen:
                seen.add(text)
                texts.append(text)
        roles = ("role:general",) if portion == "general" else ("role:general", "role:regularisation")
        rows += [Demonstration(text, tags=roles, split="fit" if split == "fit" else "test") for text in texts]
    about = "Held-out everyday text for side effects; the fit rows are a disjoint portion to regularise with."
    return DemonstrationSet("neutral", "Neutral text", about, "neutral", "mean NLL per token", numbered("neutral", rows))
