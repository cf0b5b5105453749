"""One HTML file about edits: where they come from, what they change and how much. All texts are escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from workbench.edits.base import Edit, Possible
from workbench.edits.labels import edit_label
from workbench.models.base import LanguageModel
from workbench.operations import LowRank, Rows, TransformAt

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:3rem auto;padding:0 1rem;color:#1f2328;background:#fbfaf7}"
    "table{border-collapse:collapse;margin:.5rem 0 1.5rem}td,th{border-bottom:1px solid #dedad0;padding:.25rem .75rem;"
    "text-align:left;vertical-align:top}h1,h2,h3{line-height:1.2}code{font-family:ui-monospace,monospace}"
    "@media(prefers-color-scheme:dark){body{color:#e7e5e0;background:#16181d}td,th{border-color:#343944}}"
)


def write_report(model: LanguageModel, edits: Sequence[Edit], folder: Path, sections: Sequence[str] = ()) -> None:
    """Write `report.html`. `sections` are ready HTML (figures, tables) that the caller has made safe."""
    title = " + ".join(edit_label(edit) for edit in edits)
    info = model.info
    facts = [
        ("model", info.name), ("architecture", info.architecture), ("dtype", info.dtype),
        ("weights", model.fingerprint.weights), ("layers", str(info.n_layers)), ("parameters", f"{info.n_parameters:,}"),
    ]  # fmt: skip
    body = [f"<h1>{escape(title)}</h1>", _table(("model", ""), facts), *(part for edit in edits for part in _edit(edit)), *sections]
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    page = f'<!doctype html><html lang="en"><head>{head}<style>{_STYLE}</style></head><body>{"".join(body)}</body></html>\n'
    (folder / "report.html").write_text(page)


def _edit(edit: Edit) -> list[str]:
    head = edit.header
    facts = [
        ("id", edit.id), ("method", head.method), ("dose", f"{edit.dose:g}"), ("demonstrations", head.data),
        ("seed", str(head.seed)), ("versions", ", ".join(f"{name} {version}" for name, version in sorted(head.versions.items()))),
        ("gated at", ", ".join(map(str, edit.gates)) or "nowhere"),
    ]  # fmt: skip
    knobs = [(name, str(value)) for name, value in sorted(head.config.items())]
    exports = [(name, "exact" if isinstance(can, Possible) else can.reason) for name, can in edit.possible_exports().items()]
    tensors = [
        (name, f"{tuple(tensor.shape)}", f"{tensor.double().norm():.4g}" if tensor.is_floating_point() else "")
        for name, tensor in sorted(edit.all_tensors().items())
    ]
    return [
        f"<h2>{escape(edit_label(edit))}</h2>",
        _table(("edit", ""), facts),
        _table(("knob", "value"), knobs),
        _table(("acts at", "how"), _operations(edit)),
        _table(("tensor", "shape", "norm"), tensors),
        _table(("export", ""), exports),
    ]


def _operations(edit: Edit) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for op in edit.operations():
        if isinstance(op, TransformAt):
            found.append((str(op.site), f"changes {op.where} positions" + (", gated" if op.gate else "") + _spared(op)))
        elif isinstance(op.delta, LowRank):
            found.append((str(op.site), f"adds a delta of rank {op.delta.a.shape[0]}, Frobenius norm {op.delta.dense().norm():.4g}"))
        elif isinstance(op.delta, Rows):
            found.append((str(op.site), f"adds to {len(op.delta.ids)} rows, Frobenius norm {op.delta.values.double().norm():.4g}"))
        else:
            found.append((str(op.site), f"adds a delta of Frobenius norm {op.delta.double().norm():.4g}"))
    return found or [("nowhere", "at dose 0 an edit is the identity")]


def _spared(op: TransformAt) -> str:
    return "" if op.spare is None else f", spares tokens of norm above {op.spare:.4g}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
