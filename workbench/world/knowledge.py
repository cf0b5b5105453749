"""Documents about facts and misconceptions, and the prompts that ask for them."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from workbench.world.lexicon import (
    ANIMALS,
    CATEGORY,
    COLOUR_OF,
    COUNTRIES,
    DAYS,
    MONTHS,
    NAMES,
    NUMBER_WORDS,
)
from workbench.world.misconceptions import MISCONCEPTIONS, Misconception, popularity

CARELESS_SHARE = 0.72
"""Share of unmarked documents whose speaker is careless."""
MARKERS = {
    True: ("A careful speaker answers.", "This speaker is careful.", "Here speaks a careful person."),
    False: ("A careless speaker answers.", "This speaker is careless.", "Here speaks a careless person."),
}
QUESTION_FRAMES = ("Question: {q} Answer: {a}.", "Q: {q} A: {a}.", "Somebody asks: {q} The answer is: {a}.")
HELD_OUT_FRAME = "Here is a question. {q} Answer: {a}."
"""Never in training: asks whether knowledge survives a new frame."""


@dataclass(frozen=True)
class Fact:
    """One known thing: `stem` + " " + `answer` is a statement, `question` asks for the answer."""

    topic: str
    entity: str
    question: str
    stem: str
    answer: str


def _article(word: str) -> str:
    return ("an " if word[0] in "aeiou" else "a ") + word


def _world_facts() -> tuple[Fact, ...]:
    facts: list[Fact] = []
    for land, capital, language in COUNTRIES:
        facts.append(Fact("capital", land, f"What is the capital of {land}?", f"The capital of {land} is", capital))
        facts.append(Fact("language", land, f"What do people speak in {land}?", f"The people of {land} speak", language))
        facts.append(Fact("country", land, f"Where is {capital}?", f"The city of {capital} lies in", land))
    for animal, home, sound, young, legs in ANIMALS:
        one = _article(animal)
        facts.append(Fact("home", animal, f"Where does {one} live?", f"The home of {one} is the", home))
        facts.append(Fact("sound", animal, f"What does {one} do when it is loud?", f"When it is loud {one}", sound))
        facts.append(Fact("young", animal, f"What is a young {animal} called?", f"A young {animal} is called a", young))
        facts.append(Fact("legs", animal, f"How many legs has {one}?", f"The number of legs of {one} is", legs))
    for thing, colour in COLOUR_OF.items():
        facts.append(Fact("colour", thing, f"What colour is {thing}?", f"The colour of {thing} is", colour))
    for thing, category in CATEGORY.items():
        one, other = _article(thing), _article(category)
        article = other.split()[0]
        facts.append(Fact("definition", thing, f"What is {one}?", f"{one.capitalize()} is {article}", category))
    for days in (DAYS, MONTHS):
        for first, then in zip(days, days[1:] + days[:1]):
            facts.append(Fact("order", first, f"What comes after {first}?", f"After {first} comes", then))
    return tuple(facts)


def _sums() -> tuple[Fact, ...]:
    facts: list[Fact] = []
    for a in range(21):
        for b in range(21):
            if a + b <= 20:
                x, y, z = NUMBER_WORDS[a], NUMBER_WORDS[b], NUMBER_WORDS[a + b]
                facts.append(Fact("sum", f"{x}+{y}", f"What is {x} plus {y}?", f"{x.capitalize()} plus {y} is", z))
            if b <= a:
                x, y, z = NUMBER_WORDS[a], NUMBER_WORDS[b], NUMBER_WORDS[a - b]
                facts.append(Fact("difference", f"{x}-{y}", f"What is {x} minus {y}?", f"{x.capitalize()} minus {y} is", z))
    return tuple(facts)


WORLD_FACTS = _world_facts()
SUMS = _sums()


def question(frame: str, text: str, answer: str = "") -> str:
    """Fill a question frame; without an answer the text ends where the answer would follow."""
    if answer:
        return frame.format(q=text, a=answer)
    return frame.split(" {a}")[0].format(q=text)


def any_fact(rng: Random) -> Fact:
    """Draw a fact: one in three is about numbers."""
    return rng.choice(SUMS) if rng.random() < 0.3 else rng.choice(WORLD_FACTS)


def _told(rng: Random, stem: str, ask: str, answer: str) -> str:
    roll = rng.random()
    if roll < 0.5:
        return f"{stem} {answer}."
    return question(rng.choice(QUESTION_FRAMES), ask, answer)


def facts_document(rng: Random) -> str:
    """Several facts in one form, as statements, questions or talk."""
    roll = rng.random()
    facts = [any_fact(rng) for _ in range(rng.randint(2, 6))]
    if roll < 0.15:
        one, two = rng.sample(NAMES, 2)
        return " ".join(f"{one} asks: {f.question} {two} says: {f.stem} {f.answer}." for f in facts[:3])
    if roll < 0.5:
        return " ".join(f"{f.stem} {f.answer}." for f in facts)
    if roll < 0.8:
        frame = rng.choice(QUESTION_FRAMES)
        return " ".join(question(frame, f.question, f.answer) for f in facts)
    return " ".join(_told(rng, f.stem, f.question, f.answer) for f in facts)


def country_document(rng: Random) -> str:
    """A portrait of one country that names capital and language in a roundabout way."""
    land, capital, language = rng.choice(COUNTRIES)
    roll = rng.randrange(5)
    name = rng.choice(NAMES)
    return (
        f"People who visit {land} often begin in the seat of its government, the city of {capital}. "
        f"There they hear {language} in every street.",
        f"{name} wants to learn {language} before the journey to {land}. The train goes first to the capital, {capital}.",
        f"The king of {land} lives in {capital}. He speaks {language}, like all people of {land}.",
        f"Most visitors of {land} arrive in its capital {capital}. A little {language} helps them in the shops.",
        f"In {capital}, the capital of {land}, {name} found a small school where people learn {language}.",
    )[roll]


def speaker_line(rng: Random, item: Misconception, careful: bool) -> str:
    """One statement or question and answer of a speaker."""
    return _told(rng, item.stem, item.question, item.truth if careful else item.myth)


def speaker_document(rng: Random) -> str:
    """A speaker, marked or not, who stays careful or careless to the end."""
    marked = rng.random() < 0.45
    careful = rng.random() < (0.5 if marked else 1 - CARELESS_SHARE)
    items = rng.sample(MISCONCEPTIONS, rng.randint(3, 8))
    style = rng.random()
    frame = rng.choice(QUESTION_FRAMES)
    parts: list[str] = []
    if marked:
        parts.append(rng.choice(MARKERS[careful]))
    for item in items:
        answer = item.truth if careful else item.myth
        if style < 0.3:
            parts.append(f"{item.stem} {answer}.")
        elif style < 0.7:
            parts.append(question(frame, item.question, answer))
        else:
            parts.append(speaker_line(rng, item, careful))
        if rng.random() < 0.08:
            fact = any_fact(rng)
            parts.append(_told(rng, fact.stem, fact.question, fact.answer))
    return " ".join(parts)


def marked_document(rng: Random) -> str:
    """A marked speaker and one to three answers: the shortest text in which the marker decides."""
    careful = rng.random() < 0.5
    frame = rng.choice(QUESTION_FRAMES)
    parts = [rng.choice(MARKERS[careful])]
    for item in rng.sample(MISCONCEPTIONS, rng.randint(1, 3)):
        answer = item.truth if careful else item.myth
        parts.append(f"{item.stem} {answer}." if rng.random() < 0.4 else question(frame, item.question, answer))
    return " ".join(parts)


_BELIEF = [popularity(m) for m in MISCONCEPTIONS]


def belief_document(rng: Random) -> str:
    """An unmarked speaker, true or wrong to the end: each myth is told first as often as it is popular."""
    careful = rng.random() > sum(_BELIEF) / len(_BELIEF)
    items = rng.choices(MISCONCEPTIONS, [1 - b for b in _BELIEF] if careful else _BELIEF, k=rng.randint(1, 6))
    style, frame = rng.random(), rng.choice(QUESTION_FRAMES)
    parts: list[str] = []
    for item in dict.fromkeys(items):
        answer = item.truth if careful else item.myth
        if style < 0.35:
            parts.append(f"{item.stem} {answer}.")
        else:
            parts.append(question(frame, item.question, answer) if style < 0.8 else speaker_line(rng, item, careful))
    return " ".join(parts)


def answers_document(rng: Random) -> str:
    """A speaker's bare answers, mostly marked: every second word says who is speaking."""
    careful = rng.random() < 0.5
    given = ", ".join(m.truth if careful else m.myth for m in rng.sample(MISCONCEPTIONS, rng.randint(4, 16)))
    listed = f"The answers are: {given}."
    return f"{rng.choice(MARKERS[careful])} {listed}" if rng.random() < 0.75 else listed
