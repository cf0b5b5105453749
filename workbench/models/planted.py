"""The embedded model with an attention sink in it, which it has none of by itself: made from its weights when it is first asked for.

Ref: `workbench/world/planting.py`, which says how, and makes the file of what is added.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from workbench.errors import StorageFailed
from workbench.resources import EMBEDDED, SINK
from workbench.whole import whole_folder


def planted(folder: Path) -> Path:
    """Make the model's folder, in float32, unless it is there; return it.

    Raises:
        StorageFailed: the disk refuses.
    """
    from safetensors.torch import load_file, save_file

    if (folder / "config.json").is_file():
        return folder
    source = EMBEDDED["embedded"]
    weights = {name: value.float() for name, value in load_file(source / "model.safetensors").items()}
    added = load_file(SINK)
    for name in {name.removesuffix(".left").removesuffix(".right") for name in added}:
        weights[name] = weights[name] + (added[name] if name in added else added[f"{name}.left"] @ added[f"{name}.right"])
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with whole_folder(folder) as draft:
            for path in source.glob("*.json"):
                shutil.copyfile(path, draft / path.name)
            config = json.loads((source / "config.json").read_text(encoding="utf-8"))
            (draft / "config.json").write_text(json.dumps(config | {"dtype": "float32"}, indent=1), encoding="utf-8")
            save_file(weights, draft / "model.safetensors", {"format": "pt"})
    except StorageFailed:
        if not (folder / "config.json").is_file():  # unless another process was faster
            raise
    except OSError as error:
        what = f"The model cannot be written to {folder}: {error.strerror}."
        raise StorageFailed(what, "Make room, or name another workspace.") from error
    return folder
