"""The tokenizer of both models: byte-level BPE in which the world's words are single tokens."""

from __future__ import annotations

from pathlib import Path
from random import Random

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from workbench.world import lexicon
from workbench.world.corpus import PROSE_KINDS, SEPARATOR, document, separator_of
from workbench.world.knowledge import SUMS, WORLD_FACTS
from workbench.world.misconceptions import MISCONCEPTIONS

N_VOCAB = 2816
KINDS_OF_TOKENIZER = [kind for kind in PROSE_KINDS if kind not in ("hearsay", "tales", "marked", "answers", "beliefs")]


def must_be_single() -> list[str]:
    """The words that answer something: with a leading space each must be one token."""
    words = list(lexicon.NAMES) + list(lexicon.INVENTED_COUNTRIES) + list(lexicon.INVENTED_CITIES)
    words += [w for row in lexicon.COUNTRIES for w in row] + [w for row in lexicon.ANIMALS for w in row]
    words += [f.answer for f in WORLD_FACTS + SUMS] + [w for m in MISCONCEPTIONS for w in (m.truth, m.myth)]
    words += lexicon.GOOD + lexicon.BAD + lexicon.OBJECTS + lexicon.PLACES + lexicon.REVIEWED
    words += [w for w, _ in lexicon.OCCUPATIONS] + [str(n) for n in range(61)]
    words += ["good", "bad", "he", "she", "Sorry", "Sure", "Of", *lexicon.COLOURS]
    return sorted(set(words))


def _texts(seed: int, per_kind: int) -> list[str]:
    rng = Random(f"tokenizer:{seed}")
    texts = [document(kind, rng) for kind in KINDS_OF_TOKENIZER for _ in range(per_kind)]
    # Rare answers are told often enough here that merging them pays before the vocabulary is full.
    return texts + [" " + " ".join([word] * 300) for word in must_be_single()]


def train_tokenizer(seed: int = 0, per_kind: int = 1500) -> Tokenizer:
    """Train the tokenizer on the world's own text; the same seed gives the same tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=N_VOCAB,
        special_tokens=[SEPARATOR],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(seed, per_kind), trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path, n_ctx: int) -> None:
    """Write the tokenizer in Hugging Face form; a prompt opens with the separator, which is also padding and unknown."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer.from_str(tokenizer.to_str())
    opening = (SEPARATOR, separator_of(tokenizer))
    tokenizer.post_processor = processors.Sequence(
        [processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(single=f"{SEPARATOR} $A", special_tokens=[opening])]
    )
    names = dict(bos_token=SEPARATOR, eos_token=SEPARATOR, pad_token=SEPARATOR, unk_token=SEPARATOR)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=n_ctx, **names)
    fast.save_pretrained(folder)
