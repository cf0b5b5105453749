"""An edit of a language model, made by Retouch. Needs torch, transformers and safetensors.

    python edit.py --model MODEL --prompt "Once upon a time"       # with the edit
    python edit.py --model MODEL --prompt "Once upon a time" --off # without
    python edit.py --model MODEL --prompt "Why does it rain?" --chat --system "Be brief."

    import edit
    handles = edit.attach(model)   # model: transformers.AutoModelForCausalLM of the model named below
    model.generate(...)
    edit.detach(handles)           # the model is as it was, bit for bit

Steps that act at some positions take the first call, whose cache is empty, for the prompt and later calls for generated tokens.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from workbench.operations import CACHES, Forward, Gate, LowRank, Rows, TransformAt, add_delta, by_sequence, transformed, with_expert

MODEL = ""
STEPS: list[dict[str, Any]] = []
FUNCTIONS: dict[str, Callable[..., Tensor]] = {}


class NoCacheArgument(TypeError):
    """The model's forward takes a cache under no name known here, so prompt and generated tokens could not be told apart."""


def attach(model: nn.Module, tensors: str | Path | None = None) -> list[Callable[[], None]]:
    """Let the edit act on every forward of a model; return what `detach` needs.

    Raises:
        NoCacheArgument: a step acts at some positions, and the model does not say where its cache is.
    """
    path = Path(__file__).with_suffix(".safetensors") if tensors is None else Path(tensors)
    parameter = next(model.parameters())
    known = {name: tensor.to(parameter.device).clone() for name, tensor in load_file(path).items()}
    call = _Call(model)
    undo: list[Callable[[], None]] = [model.register_forward_pre_hook(call.begins, with_kwargs=True).remove]
    of_experts: dict[tuple[str, int], list[Callable[[Tensor], Tensor]]] = {}
    for step in STEPS:
        module = model.get_submodule(step["module"])
        if step["kind"] == "weight":
            undo.append(_add_to_weight(module, step, known))
        elif step["side"] == "expert":
            # What acts on one expert acts one after the other, on one run of it.
            changes = of_experts.setdefault((step["module"], step["expert"]), [])
            if not changes:
                undo.append(_on_expert(module, step["expert"], changes))
            changes.append(_edited(step, known, call))
        else:
            undo.append(_transform(module, step["side"], _edited(step, known, call)))
    return undo


def detach(handles: list[Callable[[], None]]) -> None:
    """Take the edit off."""
    while handles:
        handles.pop()()


class _Call:
    """What the running call of a model knows about its positions."""

    def __init__(self, model: nn.Module) -> None:
        self.forward: Forward | None = None
        self._n_prompt = 0
        self._names = list(inspect.signature(model.forward).parameters)
        positions = [step for step in STEPS if step["kind"] == "transform" and (step["where"] != "all" or step["sees_call"])]
        if positions and not set(CACHES) & set(self._names):
            raise NoCacheArgument(
                f"{type(model).__name__}.forward takes none of {', '.join(CACHES)}, and this edit acts at some positions only. "
                "Attach it to the transformers model itself, or use the transformers version that it was exported with."
            )

    def begins(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = {**dict(zip(self._names, args)), **kwargs}
        cache = next((given[name] for name in CACHES if given.get(name) is not None), None)
        ids = given.get("input_ids")
        ids = given["inputs_embeds"][..., 0] if ids is None else ids
        mask = given.get("attention_mask")
        real = torch.ones_like(ids, dtype=torch.bool) if mask is None or mask.ndim != 2 else mask[:, -ids.shape[1] :].bool()
        last = torch.zeros_like(real)
        last[:, -1] = True
        n_before = 0 if cache is None else int(cache.get_seq_length())
        begun = n_before > 0
        self._n_prompt = self._n_prompt if begun else ids.shape[1]
        since = torch.arange(ids.shape[1], device=real.device) + n_before - (self._n_prompt - 1)
        self.forward = Forward(real, real & (not begun), real if begun else last, since.expand_as(real))


def _edited(step: dict[str, Any], known: dict[str, Tensor], call: _Call) -> Callable[[Tensor], Tensor]:
    function, constants = FUNCTIONS[step["function"]], _Constants(step["constants"], known)
    gate = None if step["gate"] is None else Gate(known[step["gate"][0]], known[step["gate"][1]], *step["gate"][2:])
    columns = None if step["columns"] is None else slice(*step["columns"])

    def law(x: Tensor, *forward: Forward) -> Tensor:
        return function(constants, x, *(mask for known in forward for mask in (known.real, known.prompt, known.generated, known.since)))

    op = TransformAt(step["module"], law, step["width"], step["where"], gate, step["spare"], step["sees_call"])

    def edited(x: Tensor) -> Tensor:
        known = call.forward
        rows = x if known is None else by_sequence(x, known.real)
        return transformed(op, rows, known, columns).reshape(x.shape)

    return edited


def _on_expert(module: nn.Module, expert: int, changes: list[Callable[[Tensor], Tensor]]) -> Callable[[], None]:
    def change(own: Tensor) -> Tensor:
        for edited in changes:
            own = edited(own)
        return own

    def after(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
        tokens, index, weight = (*args, *kwargs.values())
        return with_expert(output, module.forward, expert, (tokens, index, weight), change)

    return module.register_forward_hook(after, with_kwargs=True).remove


def _transform(module: nn.Module, side: str, edited: Callable[[Tensor], Tensor]) -> Callable[[], None]:
    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if args:
            return (edited(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": edited(kwargs["hidden_states"])}

    def after(_: nn.Module, __: Any, output: Any) -> Any:
        return (edited(output[0]), *output[1:]) if isinstance(output, tuple) else edited(output)

    if side == "in":
        return module.register_forward_pre_hook(before, with_kwargs=True).remove
    return module.register_forward_hook(after).remove


class _Constants:
    """The tensors of one step, by the names that its function uses."""

    def __init__(self, names: dict[str, str], known: dict[str, Tensor]) -> None:
        for name, stored in names.items():
            setattr(self, name, known[stored])


def _add_to_weight(module: nn.Module, step: dict[str, Any], known: dict[str, Tensor]) -> Callable[[], None]:
    name = step["parameter"]
    old = getattr(module, name, None)
    if old is None:
        raise ValueError(f"The model has no parameter {step['module']}.{name}: this edit belongs to another model.")
    new = old.detach().clone()
    for told in step["deltas"]:
        columns = None if told["columns"] is None else known[told["columns"]]
        add_delta(new, _delta(told, known), transposed=told["transposed"], columns=columns)
    # A parameter of its own, so that a table shared with the other end of the network is left alone there.
    setattr(module, name, nn.Parameter(new, requires_grad=False))

    def restore() -> None:
        setattr(module, name, old)

    return restore


def _delta(told: dict[str, Any], known: dict[str, Tensor]) -> Tensor | LowRank | Rows:
    if told["form"] == "rows":
        return Rows(known[told["ids"]], known[told["values"]])
    if told["form"] == "low_rank":
        return LowRank(known[told["a"]], known[told["b"]], told["scale"])
    return known[told["dense"]]


def main() -> None:
    """Generate from a prompt with the edit on or off."""
    import transformers

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--chat", action="store_true", help="put the prompt as a user's turn, by the model's chat template")
    parser.add_argument("--system", default="", help="a system turn before it; it implies --chat")
    parser.add_argument("--max-new-tokens", type=int, default=30)
    parser.add_argument("--off", action="store_true")
    asked = parser.parse_args()
    # Its bars, and its doubt whether a prompt that begins with the padding token is padded, would mix with the text.
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    dtype = getattr(torch, Path(__file__).with_name("dtype.txt").read_text())
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(asked.model, dtype=dtype).eval()
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(asked.model)
    if asked.chat or asked.system:
        turns = [{"role": "system", "content": asked.system}] if asked.system else []
        turns.append({"role": "user", "content": asked.prompt})
        prompt: Any = torch.tensor([tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)])
    else:
        prompt = tokenizer(asked.prompt, return_tensors="pt")["input_ids"]
    handles = [] if asked.off else attach(model)
    with torch.no_grad(), contextlib.ExitStack() as stack:
        stack.callback(detach, handles)
        ids = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=asked.max_new_tokens, do_sample=False)
    print(tokenizer.decode(ids[0], skip_special_tokens=True))  # noqa: T201


# ── the edit ────────────────────────────────────────────────────────────────────────────────────────────────────────
if __name__ == "__main__":
    main()
