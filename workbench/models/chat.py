"""The one place that renders conversations: by the model's own template, to token ids, never by cutting a rendered text."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from workbench.conversations import Conversation
from workbench.errors import BadPrompt

THINKING = re.compile(r"<think>(.*?)(?:</think>|\Z)", re.DOTALL)


def has_template(tokenizer: Any) -> bool:
    """Whether the model was made for conversations: its tokenizer carries a template."""
    return bool(getattr(tokenizer, "chat_template", None))


# What gives a family of templates away, the most telling mark first.
_FAMILIES = {
    "<|im_start|>": "chatml", "<|start_header_id|>": "llama 3", "<start_of_turn>": "gemma", "<<SYS>>": "llama 2", "[INST]": "mistral",
    "<|assistant|>": "assistant-mark",
}  # fmt: skip


def template_name(tokenizer: Any) -> str:
    """What a template is called: its family, by its marks, and the start of its hash; `chatml template 5f1c93ab`. Empty without one."""
    if not has_template(tokenizer):
        return ""
    text = _template(tokenizer)
    family = next((name for mark, name in _FAMILIES.items() if mark in text), "own")
    return f"{family} template {hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _template(tokenizer: Any) -> str:
    template = tokenizer.chat_template
    return template if isinstance(template, str) else json.dumps(template, sort_keys=True)


def thinks(tokenizer: Any) -> bool:
    """Whether the template knows a thinking part before the answer."""
    return has_template(tokenizer) and "</think>" in _template(tokenizer)


def chat_ids(tokenizer: Any, conversation: Conversation, *, thinking: bool | None = None) -> list[int]:
    """The token ids of a conversation as the template renders it, up to where the answer begins (or goes on).

    Args:
        thinking: False asks a reasoning model to answer at once, True to think first, None leaves it to the template.

    Raises:
        BadPrompt: the tokenizer has no template, or the template refuses the conversation, in its own words.
    """
    return _applied(tokenizer, conversation, thinking, tokenize=True)


def rendered(tokenizer: Any, conversation: Conversation, *, thinking: bool | None = None) -> str:
    """The same as text with its special tokens: to be looked at, never to be tokenised again. Errors: `chat_ids`."""
    return _applied(tokenizer, conversation, thinking, tokenize=False)


def _applied(tokenizer: Any, conversation: Conversation, thinking: bool | None, *, tokenize: bool) -> Any:
    if not has_template(tokenizer):
        raise BadPrompt(
            "This model has no chat template, so a conversation cannot be put to it.", "Turn chat off, or load an instruct model."
        )
    open_turn = conversation.turns[-1:] and conversation.turns[-1].role == "assistant"
    more = {} if thinking is None else {"enable_thinking": thinking}
    try:
        return tokenizer.apply_chat_template(
            conversation.messages(), tokenize=tokenize, add_generation_prompt=not open_turn, continue_final_message=bool(open_turn),
            return_dict=False, **more,
        )  # fmt: skip
    except (TemplateError, ValueError, TypeError, KeyError) as error:
        why = next(iter(str(error).splitlines()), type(error).__name__)
        hint = "Put what the system turn says into the first question." if conversation.system else "Let user and assistant take turns."
        raise BadPrompt(f"The model's chat template refuses this conversation: {why}", hint) from error


@dataclass(frozen=True)
class Answer:
    """A generated text, its thinking part told apart: `thinking` is empty where there is none, `answer` is what a person is told."""

    thinking: str
    answer: str


def told_apart(text: str) -> Answer:
    """Split `<think>…</think>` (or one that was cut off) from the answer behind it.

    A template may open the thinking part itself; then the text begins inside it and holds only its end.
    """
    if "</think>" in text and "<think>" not in text:
        thinking, _, answer = text.partition("</think>")
        return Answer(thinking.strip(), answer.strip())
    thoughts = THINKING.findall(text)
    return Answer("\n".join(thought.strip() for thought in thoughts), THINKING.sub("", text).strip() if thoughts else text)
