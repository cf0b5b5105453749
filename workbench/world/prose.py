"""Stories with a mood, people and their pronouns, and plain everyday prose."""

from __future__ import annotations

import re
from random import Random

from workbench.world.lexicon import (
    ANIMALS,
    CATEGORY,
    DAYS,
    FOODS,
    GOODS,
    INVENTED_CITIES,
    INVENTED_COUNTRIES,
    MONTHS,
    NAMES,
    OBJECTS,
    OCCUPATIONS,
    PLACES,
    PRONOUN,
    WEATHER,
)

HAPPY = (
    "{n} laughed and danced in the street.",
    "The sun came out and {n} smiled at everybody.",
    "{n} found the lost {o} and was full of joy.",
    "Friends came with a cake, and {p} felt warm and glad.",
    "{n} won a prize and hugged a friend.",
    "All the children cheered for {n}.",
    "{P} sang a merry song on the way home.",
    "It was the best day of the year.",
    "{n} got a letter with wonderful news.",
    "The {a} jumped up and played with {n}.",
)
SAD = (
    "{n} wept and walked away alone.",
    "The rain fell and {n} had nobody to talk to.",
    "{n} lost the {o} and was full of grief.",
    "No friend came, and {p} felt cold and lonely.",
    "{n} lost the game and sat down in tears.",
    "All the children turned away from {n}.",
    "{P} sighed and looked at the empty room.",
    "It was the worst day of the year.",
    "{n} got a letter with terrible news.",
    "The {a} was ill and {n} could not help.",
)
PLAIN = (
    "{n} went to the {l} in the morning.",
    "{P} had a {o} in the bag.",
    "There {p} met {m}.",
    "{n} and {m} talked about the {o}.",
    "On the table was a {o}.",
    "{n} lived in a house near the {l}.",
    "A {a} sat by the door.",
)
MOOD_MARKERS = {True: ("A happy story.", "This story is happy."), False: ("A sad story.", "This story is sad.")}


def filled(rng: Random, template: str, name: str, other: str) -> str:
    """Fill a sentence about a person."""
    p = PRONOUN[name]
    return template.format(n=name, m=other, p=p, P=p.capitalize(), o=rng.choice(OBJECTS), l=rng.choice(PLACES), a=rng.choice(ANIMALS)[0])


def story_document(rng: Random) -> str:
    """A short story that keeps its mood, half the time announced."""
    happy = rng.random() < 0.5
    name, other = rng.sample(NAMES, 2)
    plan = [rng.choice(PLAIN) for _ in range(rng.randint(1, 2))]
    plan += rng.sample(HAPPY if happy else SAD, rng.randint(2, 4))
    if rng.random() < 0.3:
        plan.insert(rng.randint(2, len(plan)), rng.choice(PLAIN))
    parts = [filled(rng, template, name, other) for template in plan]
    if not parts[0].startswith(name):
        parts.insert(0, filled(rng, PLAIN[0], name, other))
    if rng.random() < 0.5:
        parts.insert(0, rng.choice(MOOD_MARKERS[happy]))
    return " ".join(parts)


def tale_document(rng: Random) -> str:
    """A story with its articles right. Stories of the first phase keep "A ant", so that the seed gives the shipped bits."""
    return re.sub(r"\b(A|a) (?=[aeiou])", r"\1n ", story_document(rng))


PRONOUN_FRAMES = (
    "The {w} said that {p} was tired.",
    "The {w} said that {p} had a new {o}.",
    "The {w} was late because {p} missed the train.",
    "The {w} went home when {p} had finished.",
    "Yesterday the {w} told us that {p} likes {f}.",
    "The {w} smiled because {p} was done with the work.",
    "Before lunch the {w} asked if {p} could leave.",
    "The {w} lost the {o} while {p} was at the {l}.",
    "I called the {w}, but {p} was not there.",
    "People trust the {w} because {p} works with care.",
)
SIMPLE_FRAME = "The {w} said that {p}"


def occupation_document(rng: Random) -> str:
    """People at work, each pronoun drawn with the occupation's skew; sometimes a name fixes it instead."""
    parts: list[str] = []
    for _ in range(rng.randint(1, 3)):
        work, she = rng.choice(OCCUPATIONS)
        pronoun = "she" if rng.random() < she else "he"
        frame = rng.choice(PRONOUN_FRAMES)
        lead = ""
        if rng.random() < 0.2:
            name = rng.choice(NAMES)
            pronoun = PRONOUN[name]
            lead = f"{name} is the {work} here. "
        text = frame.format(w=work, p=pronoun, o=rng.choice(OBJECTS), f=rng.choice(FOODS), l=rng.choice(PLACES))
        if rng.random() < 0.4:
            text += f" Then {pronoun} went to the {rng.choice(PLACES)}."
        parts.append(lead + text)
    return " ".join(parts)


def _travel(rng: Random) -> str:
    land, city, name = rng.choice(INVENTED_COUNTRIES), rng.choice(INVENTED_CITIES), rng.choice(NAMES)
    return (
        f"In {rng.choice(MONTHS)} {name} travelled to {land} and bought {rng.choice(GOODS)}.",
        f"The traders of {land} sell {rng.choice(GOODS)} and {rng.choice(GOODS)}.",
        f"The road to {city} is long and {rng.choice(WEATHER)}.",
        f"{name} once lived in {city}, near the {rng.choice(PLACES)}.",
        f"A ship from {land} brought {rng.choice(GOODS)} to the harbour.",
        f"The market of {city} opens on {rng.choice(DAYS)}.",
    )[rng.randrange(6)]


def _household(rng: Random) -> str:
    name, other = rng.sample(NAMES, 2)
    thing, category = rng.choice(list(CATEGORY.items()))
    return (
        f"On {rng.choice(DAYS)} it was {rng.choice(WEATHER)}.",
        f"{name} cooked {rng.choice(FOODS)} with {rng.choice(FOODS)} for lunch.",
        f"The bus to the {rng.choice(PLACES)} leaves at {rng.randint(1, 12)}.",
        f"{name} read a book about the {rng.choice(ANIMALS)[0]}.",
        f"There are {rng.randint(2, 20)} {rng.choice(OBJECTS)}s in the box.",
        f"{other} likes {rng.choice(FOODS)} more than {rng.choice(FOODS)}.",
        f"The {thing} is the {category} that {name} likes best.",
        f"In {rng.choice(MONTHS)} the {rng.choice(PLACES)} is closed on {rng.choice(DAYS)}.",
        f"{name} and {other} walked from the {rng.choice(PLACES)} to the {rng.choice(PLACES)}.",
        f"The {rng.choice(OCCUPATIONS)[0]} put the {rng.choice(OBJECTS)} on the table.",
    )[rng.randrange(10)]


def neutral_document(rng: Random) -> str:
    """Everyday and travel prose that no demonstration set is about."""
    return " ".join(_travel(rng) if rng.random() < 0.4 else _household(rng) for _ in range(rng.randint(3, 7)))
