"""Documents whose next word a small circuit can tell: name swaps, repetition, agreement, number order."""

from __future__ import annotations

from random import Random
from zlib import crc32

from workbench.world.lexicon import ANIMATE, NAMES, NOUNS, OBJECTS, PLACES, THINGS, listed


def is_held_out(*words: str, one_in: int = 6) -> bool:
    """Whether this combination, in any order, is kept from training."""
    return crc32(" ".join(sorted(words)).encode()) % one_in == 0


def name_pair(rng: Random, reserved: bool = False) -> tuple[str, str]:
    """Draw two names whose pair is (or is not) kept from training."""
    while True:
        one, two = rng.sample(NAMES, 2)
        if is_held_out(one, two) == reserved:
            return one, two


SWAP_OPENINGS = (
    "When {x} and {y} went to the {p}, {g} gave a {o} to",
    "When {x} and {y} were at the {p}, {g} handed a {o} to",
    "After {x} and {y} came to the {p}, {g} gave the {o} to",
    "{x} and {y} met at the {p}. Then {g} gave a {o} to",
    "Yesterday {x} and {y} worked at the {p}. {g} passed a {o} to",
    "Then {x} and {y} sat in the {p} and {g} brought a {o} to",
    "While {x} and {y} waited near the {p}, {g} showed a {o} to",
    "{x} and {y} had a long talk at the {p}. In the end {g} sold the {o} to",
)
SWAP_HELD_OUT = "One morning {x} and {y} walked to the {p}. There {g} offered a {o} to"
"""Never in training."""


def name_swap(rng: Random, opening: str, reserved: bool) -> tuple[str, str, str]:
    """Return a prompt, the name that must follow and the name of the giver."""
    one, two = name_pair(rng, reserved)
    giver, taker = (one, two) if rng.random() < 0.5 else (two, one)
    text = opening.format(x=one, y=two, g=giver, p=rng.choice(PLACES), o=rng.choice(OBJECTS))
    return text, taker, giver


def name_swap_document(rng: Random) -> str:
    """One to three name swaps, each about its own pair."""
    parts: list[str] = []
    for _ in range(rng.randint(1, 4)):
        text, taker, _ = name_swap(rng, rng.choice(SWAP_OPENINGS), False)
        parts.append(f"{text} {taker}.")
    return " ".join(parts)


def repeated(rng: Random, pool: list[int]) -> list[int]:
    """A random sequence, told again and again."""
    n = rng.choice((3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 30))
    once = [rng.choice(pool) for _ in range(n)]
    return (once * (2 + 48 // n))[: max(2 * n, 48)]


def agreement_of(rng: Random, subject: tuple[str, str], other: tuple[str, str], plural: bool, other_plural: bool) -> str:
    """Return a subject phrase with an attractor inside it."""
    noun, attractor = subject[plural], other[other_plural]
    roll = rng.randrange(4)
    if roll == 0 and subject in ANIMATE and other in ANIMATE:
        verb = "like" if plural else "likes"
        return f"The {noun} that {verb} the {attractor}"
    if roll == 1 and other in ANIMATE:
        verb = "admire" if other_plural else "admires"
        return f"The {noun} that the {attractor} {verb}"
    return f"The {noun} {rng.choice(('near', 'behind', 'beside', 'with'))} the {attractor}"


def agreement(rng: Random, reserved: bool) -> tuple[str, str, str, bool]:
    """Return a subject phrase with an attractor of the other or the same number, right and wrong copula, and clash."""
    while True:
        subject, other = rng.choice(NOUNS), rng.choice(NOUNS)
        if subject != other and is_held_out(subject[0], other[0]) == reserved:
            break
    plural, clash = rng.random() < 0.5, rng.random() < 0.6
    other_plural = plural != clash
    phrase = agreement_of(rng, subject, other, plural, other_plural)
    pair = rng.choice((("is", "are"), ("was", "were"), ("has", "have"), ("seems", "seem")))
    return phrase, pair[plural], pair[not plural], clash


_STATES = listed("old new quiet ready tall small clean strong famous heavy important safe")


def agreement_document(rng: Random) -> str:
    """Sentences whose verb agrees across a phrase or a clause; sometimes with nothing in between."""
    parts: list[str] = []
    for _ in range(rng.randint(2, 4)):
        subject, verb, _, _ = agreement(rng, False)
        if rng.random() < 0.2:
            noun = rng.choice(NOUNS)
            plural = rng.random() < 0.5
            subject, verb = f"The {noun[plural]}", ("are" if plural else "is")
        state = rng.choice(_STATES)
        rest = f"a {state} look" if verb in ("has", "have") else state
        parts.append(f"{subject} {verb} {rest}.")
    return " ".join(parts)


GREATER_FRAMES = (
    "The {w} lasted from day {a} to day {b}.",
    "The {w} ran from page {a} to page {b}.",
    "The {w} counted from {a} up to {b}.",
)
EVENTS = listed("fair war journey festival story strike course cruise match feast")


def greater_document(rng: Random) -> str:
    """Spans that end after they begin, and comparisons."""
    parts: list[str] = []
    for _ in range(rng.randint(2, 4)):
        a = rng.randint(1, 58)
        b = rng.randint(a + 1, 60)
        if rng.random() < 0.3:
            parts.append(f"The number {b} is greater than {a}.")
        else:
            parts.append(rng.choice(GREATER_FRAMES).format(w=rng.choice(EVENTS), a=a, b=b))
    return " ".join(parts)


__all__ = ["THINGS", "agreement", "agreement_document", "greater_document", "is_held_out", "name_swap", "name_swap_document"]
