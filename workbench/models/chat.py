"""The one place that renders conversations: by the model's own template, to token ids, never by cutting a rendered text."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Literal

from jinja2 import TemplateError, TemplateSyntaxError

from workbench.conversations import Conversation, Prompt, as_chat
from workbench.errors import BadPrompt
from workbench.models.thinking import Marks, left_open, template_text, thinking_marks

# What templates call the choice whether to think, with its values for no and yes; None: the template's own.
_SWITCHES: dict[str, tuple[Any, Any]] = {
    "enable_thinking": (False, True), "thinking": (False, True), "reasoning": (False, True), "thinking_budget": (0, None),
}  # fmt: skip


def has_template(tokenizer: Any) -> bool:
    """Whether the model was made for conversations: its tokenizer carries a template."""
    return bool(getattr(tokenizer, "chat_template", None))


# What gives a family of templates away, the most telling mark first.
_FAMILIES = {
    "<|im_start|>": "chatml", "<|start_header_id|>": "llama 3", "<start_of_turn>": "gemma", "<<SYS>>": "llama 2", "[INST]": "mistral",
    "<|assistant|>": "assistant-mark",
}  # fmt: skip


def template_name(tokenizer: Any, thinking: bool | None = None) -> str:
    """What a template is called: its family, by its marks, and the start of its hash; `chatml template 5f1c93ab`. Empty without one.

    Where `thinking` is said, the name says so too: it is another rendering.
    """
    if not has_template(tokenizer):
        return ""
    template, text = tokenizer.chat_template, template_text(tokenizer)
    family = next((name for mark, name in _FAMILIES.items() if mark in text), "own")
    whole = template if isinstance(template, str) else json.dumps(template, sort_keys=True)
    how = {None: "", False: ", thinking left empty", True: ", thinking first"}[thinking]
    return f"{family} template {hashlib.sha256(whole.encode()).hexdigest()[:8]}{how}"


def rendering_of(tokenizer: Any, prompts: Iterable[Prompt]) -> str:
    """How prompts are read: the name of the template, by the first conversation among them; empty where all are texts."""
    first = next((prompt for prompt in prompts if isinstance(prompt, Conversation)), None)
    return "" if first is None else template_name(tokenizer, first.thinking)


def thinks(tokenizer: Any) -> bool:
    """Whether template or tokenizer declare a thinking part before the answer."""
    return has_template(tokenizer) and bool(thinking_marks(tokenizer))


def at_once(tokenizer: Any) -> Literal[False] | None:
    """How a question is put that is to be answered at once: False, its thinking part empty, where there is one that can be; else None."""
    if not thinks(tokenizer):
        return None
    try:
        rendered(tokenizer, as_chat("?", thinking=False))
    except BadPrompt:  # which of several marks it would take, nobody knows; it thinks as it likes then
        return None
    return False


def thinking_opened(tokenizer: Any, prompt: Prompt) -> Marks | None:
    """The marks of the thinking part that a prompt leaves open, so that the model's text begins inside it; None if it opens none."""
    marks = thinking_marks(tokenizer)
    if not marks or isinstance(prompt, str):
        return left_open(marks, prompt) if isinstance(prompt, str) else None
    last = prompt.turns[-1]
    if last.role == "assistant":
        return next((one for one in marks if last.text.rfind(one.opening) > last.text.rfind(one.closing)), None)
    return left_open(marks, rendered(tokenizer, prompt))


def chat_ids(tokenizer: Any, conversation: Conversation) -> list[int]:
    """The token ids of a conversation as the template renders it, up to where the answer begins (or goes on).

    Raises:
        BadPrompt: the tokenizer has no template, the template refuses the conversation, in its own words, or nobody knows how to do with
            or without a thinking part as the conversation asks.
    """
    ids: list[int] = list(_applied(tokenizer, conversation, tokenize=True))
    more = _left_empty(tokenizer, conversation)
    return ids + list(tokenizer(more, add_special_tokens=False)["input_ids"]) if more else ids


def rendered(tokenizer: Any, conversation: Conversation) -> str:
    """The same as text with its special tokens: to be looked at, never to be tokenised again. Errors: `chat_ids`."""
    return str(_applied(tokenizer, conversation, tokenize=False)) + _left_empty(tokenizer, conversation)


def _left_empty(tokenizer: Any, conversation: Conversation) -> str:
    """What leaves the thinking part empty where it has to be, and the template has no way of its own."""
    if conversation.thinking is not False or conversation.turns[-1].role == "assistant":
        return ""
    off, on = (str(_applied(tokenizer, replace(conversation, thinking=way), tokenize=False)) for way in (False, True))
    if off != on:
        return ""
    marks = thinking_marks(tokenizer)
    if len(marks) != 1:
        told = ", ".join(map(str, marks))
        raise BadPrompt(
            f"The template has no switch for thinking, and the thinking part may stand in {told}.", "Let it think, and read the answer."
        )
    return marks[0].empty.removeprefix(marks[0].opening) if left_open(marks, off) else marks[0].empty


def _switches(tokenizer: Any, thinking: bool | None) -> dict[str, Any]:
    """The template's own variables that say whether to think."""
    if thinking is None:
        return {}
    if not thinks(tokenizer):
        raise BadPrompt("This model's chat template and tokens know no thinking part.", "Leave the choice of thinking out.")
    known = {name: values[thinking] for name, values in _SWITCHES.items() if re.search(rf"\b{name}\b", template_text(tokenizer))}
    return {name: value for name, value in known.items() if value is not None}


def _applied(tokenizer: Any, conversation: Conversation, *, tokenize: bool) -> Any:
    if not has_template(tokenizer):
        raise BadPrompt(
            "This model has no chat template, so a conversation cannot be put to it.", "Turn chat off, or load an instruct model."
        )
    open_turn = conversation.turns[-1:] and conversation.turns[-1].role == "assistant"
    more = _switches(tokenizer, conversation.thinking)
    try:
        return tokenizer.apply_chat_template(
            conversation.messages(), tokenize=tokenize, add_generation_prompt=not open_turn, continue_final_message=bool(open_turn),
            return_dict=False, **more,
        )  # fmt: skip
    except TemplateSyntaxError as error:
        hint = "Restore the template in the model's folder (chat_template.jinja or tokenizer_config.json), or turn chat off."
        said = str(error.message).rstrip(".")
        raise BadPrompt(f"The model's chat template is damaged at its line {error.lineno}: {said}.", hint) from error
    except (TemplateError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        why = next(iter(str(error).splitlines()), type(error).__name__)
        hint = "Put what the system turn says into the first question." if conversation.system else "Let user and assistant take turns."
        raise BadPrompt(f"The model's chat template refuses this conversation: {why}", hint) from error
