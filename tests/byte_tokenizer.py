"""A tokenizer of single bytes with a chat template and special tokens: every text can be written in it, and comes back as it was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

TURNS = ("<|im_start|>", "<|im_end|>", "<|start|>", "<|end|>", "<|eot|>", "<start_of_turn>", "<end_of_turn>")


def byte_tokenizer(template: str | None, special: Sequence[str] = TURNS, added: Sequence[str] = ()) -> Any:
    """The tokenizer; `special` tokens are left out of decoded answers, `added` ones are tokens that are not."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", additional_special_tokens=list(special))
    fast.add_tokens(list(added))
    fast.chat_template = template
    return fast
