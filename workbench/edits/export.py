"""Take edits home: a checkpoint, a PEFT adapter, a stand-alone script, or a report.

Where an export can be run, it is loaded in a fresh process that knows nothing of Retouch, and compared with the engine:
`parity` is the largest difference of log-probabilities, in nats, over all tokens of a few probe texts.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from workbench.edits import fresh_load
from workbench.edits.base import Edit, ExportTarget, Refused
from workbench.edits.engine import applied
from workbench.edits.folding import folded_network, write_adapter
from workbench.edits.html_report import write_report
from workbench.edits.scripts import write_script
from workbench.errors import StorageFailed, UnsupportedExport
from workbench.models.base import LanguageModel
from workbench.models.building import BUILDING
from workbench.models.catalog import load, located
from workbench.models.fingerprints import HOLDS
from workbench.models.tokens import TokenBatch
from workbench.operations import AddToWeight
from workbench.progress import Progress, silent
from workbench.shapes import Tensor
from workbench.whole import whole_folder

# Rounding of one forward in each precision, with room for sums in another order; folding rounds each weight once more.
TOLERANCE = {"float64": 1e-8, "float32": 1e-3, "bfloat16": 0.5, "float16": 0.1}
_N_PROBES, _PROBE_TOKENS = 4, 16


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how far its log-probabilities are from the engine's (None where nothing can be run)."""

    target: ExportTarget
    folder: Path
    files: tuple[str, ...]
    parity: float | None
    tolerance: float
    n_tokens: int

    def __str__(self) -> str:
        if self.parity is None:
            return f"{self.target} in {self.folder}: {', '.join(self.files)}"
        return (
            f"{self.target} in {self.folder}: in a fresh load, log-probabilities of {self.n_tokens} tokens differ from the "
            f"edited model's by at most {self.parity:.3g} nats"
        )


def export(
    model: LanguageModel,
    edits: Sequence[Edit] | Edit,
    target: ExportTarget,
    folder: str | Path,
    *,
    sections: Sequence[str] = (),
    fresh_process: bool = True,
    progress: Progress | None = None,
) -> ExportReport:
    """Write edits to a folder that does not exist yet, whole or not at all, and measure the parity of what was written.

    sections: ready HTML for a report. fresh_process: False loads the export in this process, which is faster.

    Raises:
        UnsupportedExport: an edit says why it cannot be exported so, or the parity is worse than rounding.
        StorageFailed: the folder exists, or the disk refuses. Others: as `engine.applied`.
    """
    stack, tell, goal = [edits] if isinstance(edits, Edit) else list(edits), progress or silent(), Path(folder)
    _refuse(model, stack, target)
    if goal.exists():
        raise StorageFailed(f"{goal} exists already.", "Choose another folder.")
    with applied(model, *stack):  # validates every edit against the model before anything is written
        pass
    tell(0.1, f"Writing the {target}")
    try:
        with whole_folder(goal) as draft:
            _write(model, stack, target, draft, sections)
            tell(0.5, "Loading it afresh")
            parity, n_tokens = (None, 0) if target == "report" else _parity(model, stack, target, draft, fresh_process)
            tolerance = TOLERANCE.get(model.info.dtype, 1e-3)
            if parity is not None and not parity <= tolerance:
                raise UnsupportedExport(
                    f"The {target} differs from the edited model by {parity:.3g} nats; rounding explains {tolerance:g}.",
                    "Export in float32, or export a script.",
                )
    except OSError as error:
        raise StorageFailed(f"The export could not be written to {goal}: {error}", "Free some space or choose another folder.") from error
    tell(1.0, "Done")
    files = tuple(sorted(path.name for path in goal.iterdir()))
    return ExportReport(target, goal, files, parity, tolerance, n_tokens)


def _refuse(model: LanguageModel, edits: Sequence[Edit], target: ExportTarget) -> None:
    for edit in edits:
        can = edit.possible_exports(model)
        answer = can.get(target, Refused(f"A {edit.kind} edit has no such export."))
        if isinstance(answer, Refused):
            possible = [name for name, other in can.items() if not isinstance(other, Refused)]
            instead = f"It can be exported as: {', '.join(possible)}." if possible else "Keep its folder; Retouch loads it."
            raise UnsupportedExport(f"This {edit.header.method} edit has no {target}: {answer.reason}", instead)


def _write(model: LanguageModel, edits: Sequence[Edit], target: ExportTarget, folder: Path, sections: Sequence[str]) -> None:
    if target == "report":
        write_report(model, edits, folder, sections)
    elif target == "script":
        write_script(model, edits, folder)
    elif target == "peft":
        write_adapter(model, _deltas(model, edits), folder)
    else:
        network = folded_network(model, _deltas(model, edits))
        save: Any = network.save_folder if model.info.has_senses else network.save_pretrained
        save(folder)
        model.tokenizer.save_pretrained(folder)
        ids = sorted(model.holds | {edit.id for edit in edits if edit.dose})
        (folder / HOLDS).write_text(json.dumps({"edits": ids, "model": model.info.name}, indent=1) + "\n")


def _deltas(model: LanguageModel, edits: Sequence[Edit]) -> list[AddToWeight]:
    return [delta for edit in edits for delta in edit.folded(model)]


def _parity(model: LanguageModel, edits: Sequence[Edit], target: ExportTarget, folder: Path, fresh_process: bool) -> tuple[float, int]:
    probes = _probes(model)
    wanted: dict[str, Tensor] = {}
    for name, ids in probes.items():
        batch = TokenBatch.of([ids.tolist()], None, model.device)
        with torch.no_grad(), applied(model, *edits):
            logits = model.logits(batch)[0]
        wanted[name] = (logits if logits.dtype == torch.float64 else logits.float()).log_softmax(-1).cpu()
    if model.info.has_senses:
        found = _backpack(folder, model, probes)
    elif fresh_process:
        found = _in_fresh_process(target, model, folder, probes)
    else:
        with BUILDING:
            found = fresh_load.log_probs(target, _source(model), model.info.dtype, str(folder), probes)
    # Positions, not logits: a vocabulary padded by the file format has more columns.
    worst = max(float((found[name] - wanted[name]).abs().max()) for name in probes)
    return worst, sum(ids.numel() for ids in probes.values())


def _probes(model: LanguageModel) -> dict[str, Tensor]:
    """Random tokens: every part of the vocabulary takes part, and no text is needed."""
    draw = torch.Generator().manual_seed(0)
    length = min(_PROBE_TOKENS, model.info.n_ctx)
    size = min(len(model.tokenizer), model.info.d_vocab)
    return {str(i): torch.randint(0, size, (length,), generator=draw) for i in range(_N_PROBES)}


def _source(model: LanguageModel) -> str:
    return located(model.info.name)


def _backpack(folder: Path, model: LanguageModel, probes: dict[str, Tensor]) -> dict[str, Tensor]:
    loaded = load(str(folder), dtype=model.info.dtype)  # pyright: ignore[reportArgumentType] - info.dtype is one of them
    with torch.no_grad():
        return {name: loaded.logits(TokenBatch.of([ids.tolist()], None))[0].float().log_softmax(-1) for name, ids in probes.items()}


def _in_fresh_process(target: str, model: LanguageModel, folder: Path, probes: dict[str, Tensor]) -> dict[str, Tensor]:
    with tempfile.TemporaryDirectory() as room:
        ask, answer = Path(room) / "ask.safetensors", Path(room) / "answer.safetensors"
        save_file(probes, ask)
        command = [sys.executable, "-I", fresh_load.__file__, target, _source(model), model.info.dtype, str(folder), str(ask), str(answer)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise UnsupportedExport(f"The {target} cannot be loaded in a fresh process: {last}", "Report this with the edit's card.")
        return load_file(answer)
