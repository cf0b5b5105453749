"""Write edits as a stand-alone Python file: what their functions compute is recorded once and written out as torch calls.

Recording runs each pure function on symbolic tokens, so no edit has to declare anything; the calls are the very ones that
the engine makes, and results are equal to the last bit. A function whose shapes depend on its data cannot be recorded;
such an operation gives the same law in another form as `TransformAt.traceable`. What an operation means beyond its function
is carried as the text of `operations`.
"""

from __future__ import annotations

import inspect
import pprint
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.fx.experimental.proxy_tensor import make_fx

from workbench import operations
from workbench.edits import standalone
from workbench.edits.base import Edit
from workbench.errors import UnsupportedExport
from workbench.models.base import LanguageModel
from workbench.operations import POSITION_RULES, AddToWeight, Forward, LowRank, Operation, Rows, TransformAt
from workbench.shapes import Tensor

_MARK, _MEANING = "# ── the edit ", "# ── the meaning"
_IMPORT = re.compile(r"^from workbench\.operations import .*\n", re.MULTILINE)
_NEEDED = """from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, final

if TYPE_CHECKING:  # shapes in annotations, which nothing here evaluates
    from jaxtyping import Bool, Float, Int

Site = str  # the path of a module
"""
_FORWARD = re.compile(r"def forward\(self(.*?)\)(?: -> .*?)?:")
_FREED = re.compile(r";  [\w ,=]+ = None$", re.MULTILINE)


def write_script(model: LanguageModel, edits: Sequence[Edit], folder: Path) -> None:
    """Write `edit.py`, `edit.safetensors` and the dtype they were recorded in.

    Raises:
        UnsupportedExport: transformers has no network for the model, or a function cannot be recorded.
    """
    if model.info.has_senses:
        raise UnsupportedExport(
            f"{model.info.name} is a Backpack, and transformers has no such network.", "Export a checkpoint or a report."
        )
    script = _Script(model)
    for operation in (op for edit in edits for op in edit.operations()):
        script.add(operation)
    save_file(script.tensors, folder / "edit.safetensors")
    (folder / "edit.py").write_text(script.source(edits))
    (folder / "dtype.txt").write_text(str(model.dtype).removeprefix("torch."))


class _Script:
    """Steps, tensors and functions of a script that is being put together."""

    def __init__(self, model: LanguageModel) -> None:
        self.tensors: dict[str, Tensor] = {"none": torch.zeros(1)}  # a file without tensors cannot be written
        self._model = model
        self._paths = {id(module): path for path, module in model.network.named_modules()}
        self._steps: list[dict[str, Any]] = []
        self._weights: dict[tuple[str, str], dict[str, Any]] = {}
        self._functions: list[str] = []

    def add(self, op: Operation) -> None:
        if isinstance(op, AddToWeight):
            self._add_delta(op)
        else:
            self._add_transform(op)

    def source(self, edits: Sequence[Edit]) -> str:
        text = _IMPORT.sub(lambda _: self._meaning(), Path(standalone.__file__).read_text(), count=1)
        told = "\n".join(f"# {line}" for edit in edits for line in _told(edit))
        steps = pprint.pformat([*self._steps, *self._weights.values()], width=116, sort_dicts=False)
        names = ", ".join(f'"step_{i}": step_{i}' for i in range(len(self._functions)))
        parts = [told, *self._functions, f"MODEL = {self._model.info.name!r}", f"STEPS = {steps}", f"FUNCTIONS = {{{names}}}"]
        head, _, tail = text.partition(_MARK)
        rule, _, rest = tail.partition("\n")
        return f"{head}{_MARK}{rule}\n" + "\n\n".join(parts) + "\n\n\n" + rest

    def _meaning(self) -> str:
        """The text of `operations` below its line, and the rules of methods that name positions."""
        _, _, below = Path(operations.__file__).read_text().partition(_MEANING)
        named = dict.fromkeys(step["where"] for step in self._steps)
        known = [POSITION_RULES[name] for name in named if name in POSITION_RULES]
        rules = [rule for rule in known if inspect.getmodule(rule) is not operations]
        parts = [_NEEDED, below.partition("\n")[2], *map(inspect.getsource, rules)]
        return "\n\n\n".join(part.strip() for part in parts) + "\n\n"

    def _add_transform(self, op: TransformAt) -> None:
        point, index = self._model.point(op.site), len(self._functions)
        code, constants = recorded_source(op, self._model.dtype)
        self.tensors |= {f"step_{index}.{name}": tensor for name, tensor in constants.items()}
        self._functions.append(_FORWARD.sub(rf"def step_{index}(self\1):", code, count=1))
        columns = None if point.columns is None else [point.columns.start, point.columns.stop]
        gate = None
        if op.gate is not None:
            names = [f"step_{index}.gate.{part}" for part in ("weight", "bias")]
            self.tensors |= {name: _kept(tensor) for name, tensor in zip(names, (op.gate.weight, op.gate.bias))}
            gate = [*names, op.gate.kind, op.gate.sharpness]
        self._steps.append(
            {
                "kind": "transform",
                "module": self._paths[id(point.module)],
                "side": point.side,
                "expert": point.expert,
                "columns": columns,
                "width": op.width,
                "where": op.where,
                "gate": gate,
                "spare": op.spare,
                "sees_call": op.sees_call,
                "function": f"step_{index}",
                "constants": {name: f"step_{index}.{name}" for name in constants},
            }
        )

    def _add_delta(self, op: AddToWeight) -> None:
        slot = self._model.weight(op.site)
        module, _, parameter = slot.parameter_name.rpartition(".")
        new: dict[str, Any] = {"kind": "weight", "module": module, "parameter": parameter, "deltas": []}
        step = self._weights.setdefault((module, parameter), new)
        name = f"{module}.{parameter}.{len(step['deltas'])}"
        if isinstance(op.delta, Rows):
            parts, delta = {"ids": op.delta.ids, "values": op.delta.values}, {"form": "rows"}
        elif isinstance(op.delta, LowRank):
            parts, delta = {"a": op.delta.a, "b": op.delta.b}, {"form": "low_rank", "scale": op.delta.scale}
        else:
            parts, delta = {"dense": op.delta}, {"form": "dense"}
        delta |= {"transposed": slot.is_transposed, "columns": None}
        if slot.columns is not None:
            parts["columns"] = slot.columns
        self.tensors |= {f"{name}.{part}": _kept(tensor) for part, tensor in parts.items()}
        step["deltas"].append({**delta, **{part: f"{name}.{part}" for part in parts}})


def recorded_source(op: TransformAt, dtype: torch.dtype) -> tuple[str, dict[str, Tensor]]:
    """Return what an operation's function computes as the source of one function, and the tensors it uses.

    Raises:
        UnsupportedExport: its shapes depend on its data.
    """
    fn = op.traceable or op.fn

    def plain(x: Tensor) -> Tensor:
        return fn(x)

    def seeing(x: Tensor, real: Tensor, prompt: Tensor, generated: Tensor, since: Tensor) -> Tensor:
        return fn(x, Forward(real, prompt, generated, since))

    # Two rows of five tokens: sizes 0 and 1 would be taken for constants, everything above stands for any size.
    x, real = torch.randn(2, 5, op.width).to(dtype), torch.ones(2, 5, dtype=torch.bool)
    try:
        with torch.no_grad():
            traced = make_fx(seeing if op.sees_call else plain, tracing_mode="symbolic", _allow_non_fake_inputs=True)
            graph = traced(x, real, real.clone(), real.clone(), real.long()) if op.sees_call else traced(x)
    except RuntimeError as error:
        raise UnsupportedExport(
            f"The edit at {op.site} decides by its data what it computes, so its calls cannot be written down once: "
            f"{str(error).splitlines()[0]}",
            "Give the operation a `traceable` form, or keep the edit folder and load it with Retouch.",
        ) from error
    graph.graph.eliminate_dead_code()
    graph.recompile()
    used = dict.fromkeys(node.target for node in graph.graph.nodes if node.op == "get_attr")
    code = _FREED.sub("", graph.code).replace("device(type='cpu')", "x_1.device").strip()
    return code, {str(name): _kept(getattr(graph, str(name))) for name in used}


def _kept(x: Tensor) -> Tensor:
    return x.detach().cpu().clone().contiguous()


def _told(edit: Edit) -> list[str]:
    head = edit.header
    lines = [f"{head.method} edit {edit.id} at dose {edit.dose:g}, fitted on {head.model.name} ({head.model.dtype}), seed {head.seed}."]
    lines += [f"  Its demonstrations were conversations, rendered by the {head.rendered}."] * bool(head.rendered)
    return lines + [f"  {name}: {value}" for name, value in sorted(head.config.items())]
