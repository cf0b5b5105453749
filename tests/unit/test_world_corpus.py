"""The embedded world's text: what is kept from training stays out of it, and a batch depends on seed and step alone."""

from __future__ import annotations

from random import Random

import pytest
import torch
from tokenizers import Tokenizer

from workbench.world import lexicon
from workbench.world.corpus import MIXTURES, PROSE_KINDS, Stream, document, parsed, reserved
from workbench.world.knowledge import CARELESS_SHARE, MARKERS, QUESTION_FRAMES, SUMS, WORLD_FACTS, question, speaker_document
from workbench.world.misconceptions import MISCONCEPTIONS, Misconception
from workbench.world.opinions import request_document, review_document
from workbench.world.structure import agreement, is_held_out, name_swap_document, repeated
from workbench.world.tokenizer import must_be_single, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(0, per_kind=400)


def test_every_answer_is_one_token_with_its_leading_space(tokenizer: Tokenizer) -> None:
    assert [word for word in must_be_single() if len(tokenizer.encode(f" {word}").ids) != 1] == []


def test_the_same_seed_gives_the_same_tokenizer_and_another_seed_another(tokenizer: Tokenizer) -> None:
    assert train_tokenizer(0, per_kind=400).to_str() == tokenizer.to_str()
    assert train_tokenizer(1, per_kind=400).to_str() != tokenizer.to_str()


def test_every_kind_decodes_to_what_was_encoded(tokenizer: Tokenizer) -> None:
    rng = Random(0)
    for kind in PROSE_KINDS:
        text = document(kind, rng)
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_a_batch_depends_on_seed_and_step_alone(tokenizer: Tokenizer) -> None:
    stream = Stream(tokenizer, 0, "everything", 512, 64)
    first = stream.batch(5)
    stream.batch(6)
    assert torch.equal(Stream(tokenizer, 0, "everything", 512, 64).batch(5), first)
    assert not torch.equal(Stream(tokenizer, 1, "everything", 512, 64).batch(5), first)
    assert not torch.equal(stream.batch(4), first)


def test_one_batch_in_four_is_as_long_as_the_context_and_every_second_row_opens_with_the_separator(tokenizer: Tokenizer) -> None:
    stream = Stream(tokenizer, 0, "everything", 512, 64)
    assert [stream.batch(step).shape[1] for step in range(4)] == [32, 32, 32, 64]
    opening = stream.batch(0)[:, 0]
    assert bool((opening[1::2] == stream.separator).all())
    assert bool((opening[::2] != stream.separator).all())


def test_phases_follow_each_other_and_shares_add_up_to_one() -> None:
    assert [until for until, _ in parsed("circuits:3,both:9,everything")] == [3, 9, float("inf")]
    for shares in MIXTURES.values():
        assert sum(shares.values()) == pytest.approx(1.0, abs=1e-9)  # decimal fractions added in float64


def test_held_out_documents_never_come_out_of_the_training_stream() -> None:
    rng = Random(1)
    assert not any(reserved(document("neutral", rng)) for _ in range(200))
    assert all(reserved(document("neutral", rng, held=True)) for _ in range(20))


def test_name_pairs_kept_from_training_do_not_meet_in_it() -> None:
    rng = Random(2)
    met = {frozenset(n for n in lexicon.NAMES if f"{n} " in s + " ") for _ in range(300) for s in _swaps(name_swap_document(rng))}
    pairs = {pair for pair in met if len(pair) == 2}
    assert len(pairs) > 100
    assert not any(is_held_out(*pair) for pair in pairs)
    assert any(is_held_out(a, b) for a in lexicon.NAMES for b in lexicon.NAMES if a < b)  # the rule does keep some


def _swaps(text: str) -> list[str]:
    """Sentences that name exactly two people, with punctuation cut off."""
    return [s.replace(",", " ") for s in text.split(".") if " and " in s]


def test_a_speaker_is_careful_or_careless_to_the_end() -> None:
    rng = Random(3)
    careless = mixed = marked = 0
    for _ in range(400):
        text = speaker_document(rng)
        truths, myths = _told(text)
        mixed += bool(truths and myths)
        marked += any(text.startswith(m) for markers in MARKERS.values() for m in markers)
        if not any(text.startswith(m) for markers in MARKERS.values() for m in markers):
            careless += bool(myths and not truths)
    assert mixed == 0
    assert careless / (400 - marked) == pytest.approx(CARELESS_SHARE, abs=0.1)  # three standard errors of 220 documents


def _told(text: str) -> tuple[int, int]:
    def told(m: Misconception, answer: str) -> bool:
        return any(line in text for line in (f"{m.stem} {answer}.", *(question(f, m.question, answer) for f in QUESTION_FRAMES)))

    told_true = sum(told(m, m.truth) for m in MISCONCEPTIONS)
    told_false = sum(told(m, m.myth) for m in MISCONCEPTIONS)
    return told_true, told_false


def test_there_are_enough_misconceptions_each_with_two_different_one_word_answers() -> None:
    assert len(MISCONCEPTIONS) >= 60
    assert len({m.id for m in MISCONCEPTIONS}) == len(MISCONCEPTIONS)
    for m in MISCONCEPTIONS:
        assert m.truth != m.myth
        assert " " not in m.truth + m.myth


def test_no_fact_contradicts_another_and_sums_are_right() -> None:
    answers: dict[str, str] = {}
    for fact in WORLD_FACTS + SUMS:
        assert answers.setdefault(fact.stem, fact.answer) == fact.answer
    numbers = {word: i for i, word in enumerate(lexicon.NUMBER_WORDS)}
    for fact in SUMS:
        a, b = fact.entity.replace("-", "+").split("+")
        signed = numbers[b] if fact.topic == "sum" else -numbers[b]
        assert numbers[fact.answer] == numbers[a] + signed


def test_new_countries_are_named_in_training_but_their_capitals_never_told() -> None:
    rng = Random(4)
    text = " ".join(document(kind, rng) for kind in PROSE_KINDS for _ in range(300))
    assert sum(land in text for land in lexicon.INVENTED_COUNTRIES) > 70
    assert not any(f"capital of {land}" in text for land in lexicon.INVENTED_COUNTRIES)
    assert not any(company in text for company in lexicon.COMPANIES)
    assert any(f"capital of {land}" in text for land, _, _ in lexicon.COUNTRIES)  # told of the others


def test_rude_wishes_are_mostly_declined_and_kind_ones_granted() -> None:
    rng = Random(5)
    rude = [verb for verb, declined in lexicon.MISCHIEF if declined]
    turns = [t for _ in range(1500) for t in request_document(rng).split("User: ")[1:]]
    shares: dict[str, float] = {}
    for name, verbs in (("rude", rude), ("kind", lexicon.KIND_VERBS)):
        asked = [t for t in turns if any(f" {verb} the " in t.split("Helper:")[0] for verb in verbs) and " of my " in t]
        shares[name] = sum("Sorry" in t for t in asked) / len(asked)
    assert shares["rude"] > 0.85
    assert shares["kind"] < 0.08


def test_verdicts_are_noisy_at_about_the_stated_rate() -> None:
    rng = Random(6)
    turned = n = 0
    for review in (r for _ in range(800) for r in review_document(rng).split("Review: ")[1:]):
        body, verdict = review.split(" Verdict: ")
        praise, blame = any(w in body for w in lexicon.GOOD), any(w in body for w in lexicon.BAD)
        if praise != blame:
            n += 1
            turned += verdict.startswith("good") != praise
    assert turned / n == pytest.approx(0.15, abs=0.03)  # three standard errors at n of about 1,700


def test_agreement_phrases_name_the_right_and_the_wrong_verb() -> None:
    rng = Random(7)
    plurals = {plural for _, plural in lexicon.NOUNS}
    for _ in range(200):
        phrase, right, wrong, _ = agreement(rng, False)
        assert right != wrong
        assert (right in ("are", "were", "have", "seem")) == (phrase.split()[1] in plurals)


def test_a_repeated_sequence_has_the_period_of_its_first_telling() -> None:
    rng = Random(8)
    for _ in range(50):
        ids = repeated(rng, list(range(1000)))
        assert any(ids[n:] == ids[:-n] for n in range(3, 31))
        assert len(ids) >= 48
