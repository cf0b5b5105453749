"""Facts of what a learner taught a Backpack by one example."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.lessons.attempt import Attempt, FactValue, Vocabulary

if TYPE_CHECKING:
    from workbench.lenses.senses import Taught


def add_teaching(facts: Vocabulary) -> None:
    """Add them to a vocabulary. `of`: a word of the question that is meant; without one, the sentence that was taught."""
    at = "teach"

    @facts.of(at, "teach.prompt", "The sentence")
    def _(found: Taught, of: str) -> FactValue:
        return found.questions[0]

    @facts.of(at, "teach.answer", "How it should end")
    def _(found: Taught, of: str) -> FactValue:
        return found.answer.strip()

    @facts.of(at, "teach.before", "The probability of that ending before")
    def _(found: Taught, of: str) -> FactValue | None:
        return None if (which := _question(found, of)) is None else found.before[which]

    @facts.of(at, "teach.after", "The probability of that ending now")
    def _(found: Taught, of: str) -> FactValue | None:
        return None if (which := _question(found, of)) is None else found.after[which]

    @facts.of(at, "teach.says", "The next token that is likeliest now")
    def _(found: Taught, of: str) -> FactValue | None:
        return None if (which := _question(found, of)) is None else found.likeliest_after[which].strip()

    @facts.of(at, "teach.reached", "The number of questions in other words that newly get the ending")
    def _(found: Taught, of: str) -> FactValue:
        """Of those that hold a word; one that holds the taught sentence itself is none in other words."""
        told = zip(found.questions[1:], found.likeliest_before[1:], found.likeliest_after[1:])
        asked = [(then, now) for question, then, now in told if _plain(of) in _plain(question) and not _repeats(found, question)]
        return sum(_begins(found, now) and not _begins(found, then) for then, now in asked)

    @facts.of(at, "teach.senses", "The number of senses that moved")
    def _(found: Taught, of: str) -> FactValue | None:
        return found.report.scalars.get("n_senses")

    @facts.of(at, "teach.words", "The number of words of which a sense moved")
    def _(found: Taught, of: str) -> FactValue | None:
        return found.report.scalars.get("n_words")

    def unwanted(attempt: Attempt, of: str) -> FactValue | None:
        settings = attempt.settings.get(at)
        return None if settings is None else str(settings.unwanted).strip()

    facts.add("teach.unwanted", "How it should not end", unwanted)


def _question(found: Taught, word: str) -> int | None:
    if not word:
        return 0
    return next((i for i, question in enumerate(found.questions) if word.casefold() in question.casefold()), None)


def _repeats(found: Taught, question: str) -> bool:
    return _plain(found.questions[0]) in _plain(question)


def _plain(text: str) -> str:
    """A text by its words alone."""
    return " ".join(text.casefold().split())


def _begins(found: Taught, token: str) -> bool:
    """Whether a token begins the ending that was taught."""
    return bool(token.strip()) and found.answer.strip().startswith(token.strip())
