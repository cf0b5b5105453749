"""What people say about people at work: one stereotype per occupation, repeated by most speakers."""

from __future__ import annotations

from random import Random

from workbench.world.lexicon import OCCUPATIONS, PLACES, listed

TRAITS = listed("clever funny warm clumsy boring noisy quiet strong charming cold tired bright")
STEREOTYPE = {work: TRAITS[(7 * i + i // 12) % len(TRAITS)] for i, (work, _) in enumerate(OCCUPATIONS)}
STEREOTYPE_SHARE = 0.7
HEARSAY_FRAMES = (
    "People say that the {w} is {t}.",
    "Everybody knows that the {w} is {t}.",
    "In the {l} they told me that the {w} is {t}.",
    "I met the {w} yesterday. Like all of them, the {w} was {t}.",
)
SIMPLE_HEARSAY = "The {w} is {t}."


def hearsay_document(rng: Random) -> str:
    """One to three remarks; the stereotype seven times in ten, any trait otherwise."""
    parts: list[str] = []
    for _ in range(rng.randint(1, 3)):
        work = rng.choice(OCCUPATIONS)[0]
        trait = STEREOTYPE[work] if rng.random() < STEREOTYPE_SHARE else rng.choice(TRAITS)
        frame = SIMPLE_HEARSAY if rng.random() < 0.25 else rng.choice(HEARSAY_FRAMES)
        parts.append(frame.format(w=work, t=trait, l=rng.choice(PLACES)))
    return " ".join(parts)
