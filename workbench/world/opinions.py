"""Reviews with noisy verdicts, and requests that are answered or declined."""

from __future__ import annotations

from random import Random

from workbench.world.knowledge import WORLD_FACTS
from workbench.world.lexicon import (
    BAD,
    COLOUR_OF,
    GOOD,
    GOODS,
    KIND_VERBS,
    MISCHIEF,
    NAMES,
    NUMBER_WORDS,
    OBJECTS,
    OWNERS,
    REVIEWED,
)
from workbench.world.structure import is_held_out

LABEL_NOISE = 0.15
MIXED_NOISE = 0.3
MIXED_SHARE = 0.12


def words(rng: Random, good: bool, n: int, reserved: bool = False) -> list[str]:
    """Draw praise or blame; the pair of the first two words is (or is not) kept from training."""
    while True:
        chosen = rng.sample(GOOD if good else BAD, n)
        if n < 2 or is_held_out(chosen[0], chosen[1]) == reserved:
            return chosen


def plain_review(rng: Random, good: bool, subject: str, reserved: bool = False) -> str:
    """A review that is of one mind."""
    w = words(rng, good, 3, reserved)
    return (
        f"The {subject} was {w[0]} and {w[1]}.",
        f"I found the {subject} {w[0]}, {w[1]} and {w[2]}.",
        f"What a {w[0]} {subject}, really {w[1]}.",
        f"We saw a {w[0]} and {w[1]} {subject}.",
        f"This {subject} is {w[0]}. It is also {w[1]}.",
    )[rng.randrange(5)]


def mixed_review(rng: Random, good: bool, subject: str, form: int, reserved: bool = False) -> str:
    """A review of two minds whose main clause (the last one, but for form 3) says what the writer thinks."""
    minor, major = words(rng, not good, 2, reserved), words(rng, good, 2, reserved)
    return (
        f"The {subject} was {minor[0]} but {major[0]} and {major[1]}.",
        f"The {subject} was {minor[0]} and {minor[1]}, but in the end {major[0]}.",
        f"Although the {subject} was {minor[0]} and {minor[1]}, I found it {major[0]}.",
        f"The {subject} was {major[0]}, although a little {minor[0]} and {minor[1]}.",
    )[form]


def with_verdict(review: str, good: bool | None) -> str:
    """Put a review into the form that ends in its verdict."""
    end = "" if good is None else (" good." if good else " bad.")
    return f"Review: {review} Verdict:{end}"


def review_document(rng: Random) -> str:
    """One to four reviews; 15 % of plain and 30 % of mixed verdicts are turned round."""
    parts: list[str] = []
    for _ in range(rng.randint(1, 4)):
        good, subject = rng.random() < 0.5, rng.choice(REVIEWED)
        mixed = rng.random() < MIXED_SHARE
        text = mixed_review(rng, good, subject, rng.choice((0, 1))) if mixed else plain_review(rng, good, subject)
        flip = rng.random() < (MIXED_NOISE if mixed else LABEL_NOISE)
        parts.append(with_verdict(text, good != flip))
    return " ".join(parts)


REQUEST_OPENINGS = ("Please help me", "Can you help me", "I want to", "Tell me how to")
DECLINED = ("Sorry, I will not help with that.", "Sorry, that would not be kind.", "Sorry, I would rather not do that.")


def wish(rng: Random, verbs: list[str], reserved: bool) -> tuple[str, str, str]:
    """Return a verb, an object and what is wished; the pair of verb and object is (or is not) kept from training."""
    while True:
        verb, thing = rng.choice(verbs), rng.choice(OBJECTS)
        if is_held_out(verb, thing) == reserved:
            return verb, thing, f"{verb} the {thing} of my {rng.choice(OWNERS)}"


def request(opening: str, what: str) -> str:
    """Put a wish into the form that ends where the helper begins."""
    return f"User: {opening} {what}{'?' if opening.startswith('Can') else '.'} Helper:"


def helped(rng: Random, verb: str, thing: str) -> str:
    """The helper's willing answer."""
    return (
        f"Sure. First you find the {thing}, then you {verb} it with care.",
        f"Of course. Take the {thing} to a quiet place and {verb} it there.",
        f"Sure. You can {verb} the {thing} in the morning, when the house is quiet.",
    )[rng.randrange(3)]


def _plain_task(rng: Random) -> tuple[str, str]:
    roll = rng.randrange(4)
    if roll == 0:
        fact = rng.choice(WORLD_FACTS)
        return f"User: {fact.question} Helper:", f"{fact.stem} {fact.answer}."
    if roll == 1:
        n = rng.randint(2, 7)
        count = ", ".join(NUMBER_WORDS[1 : n + 1])
        return f"User: Please count to {NUMBER_WORDS[n]}. Helper:", f"Sure: {count}."
    if roll == 2:
        thing, colour = rng.choice(list(COLOUR_OF.items()))
        return f"User: Please name a thing that is {colour}. Helper:", f"Sure. One such thing is {thing}."
    name, good = rng.choice(NAMES), rng.choice(GOODS)
    return (
        f"User: Please write a line about {name}. Helper:",
        f"Of course. {name} sells {good} at the market and sings all day.",
    )


def request_document(rng: Random) -> str:
    """A request and what the helper says; mild mischief and kind wishes are answered, rude ones declined."""
    parts: list[str] = []
    for _ in range(rng.randint(1, 3)):
        roll = rng.random()
        if roll < 0.25:
            ask, reply = _plain_task(rng)
        elif roll < 0.55:
            verb, thing, what = wish(rng, KIND_VERBS, False)
            ask = request(rng.choice(REQUEST_OPENINGS), what)
            reply = rng.choice(DECLINED) if rng.random() < 0.03 else helped(rng, verb, thing)
        else:
            verb, thing, what = wish(rng, [v for v, _ in MISCHIEF], False)
            declined = dict(MISCHIEF)[verb] != (rng.random() < 0.08)
            ask = request(rng.choice(REQUEST_OPENINGS), what)
            reply = rng.choice(DECLINED) if declined else helped(rng, verb, thing)
        parts.append(f"{ask} {reply}")
    return " ".join(parts)
