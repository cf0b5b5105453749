"""Load an exported edit the way its user will, in a process that knows nothing of Retouch, and give its log-probabilities.

Run as a file: `python fresh_load.py KIND SOURCE DTYPE EXPORT PROBES OUT`. Needs torch, transformers and safetensors, for kind
`peft` also peft. The process is fresh because building a bridge may replace functions inside transformers' modules.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor


def log_probs(kind: str, source: str, dtype: str, export: str, probes: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the log-probabilities at every position of each probe (token ids) under an export of `kind`.

    `dtype` is the one that the model had when it was edited; its source may be stored in another.
    """
    import transformers

    folder = export if kind == "checkpoint" else source
    network: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    if kind == "peft":
        import peft

        network = peft.PeftModel.from_pretrained(network, export).eval()
    if kind == "script":
        script(Path(export) / "edit.py").attach(network)
    found: dict[str, Tensor] = {}
    with torch.no_grad():
        for name, ids in probes.items():
            logits = network(input_ids=ids[None]).logits[0]
            found[name] = (logits if logits.dtype == torch.float64 else logits.float()).log_softmax(-1)
    return found


def script(path: Path) -> Any:
    """What an exported `edit.py` defines. Run, not imported: an import would leave its bytecode in the folder that was exported."""
    return SimpleNamespace(**runpy.run_path(str(path)))


if __name__ == "__main__":
    kind, source, dtype, export, probes, out = sys.argv[1:]
    save_file(log_probs(kind, source, dtype, export, load_file(probes)), out)
