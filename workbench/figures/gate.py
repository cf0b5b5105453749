"""Picture of the gates of an edit: scores of answers against those of neutral text, held out."""

from __future__ import annotations

from workbench.figures.basic import histograms
from workbench.figures.picture import Picture, pictures_of
from workbench.methods.registry import FitReport


@pictures_of("gate_passes", "gate_leaks")
def pictures(report: FitReport) -> tuple[Picture, ...]:
    """One picture a gated site; none for an edit without gates."""
    arrays = report.arrays
    sites = [name.removeprefix("gate_scores[").removesuffix("]") for name in arrays if name.startswith("gate_scores[")]
    found: list[Picture] = []
    for i, site in enumerate(sites):
        passes, leaks = float(arrays["gate_passes"][i]), float(arrays["gate_leaks"][i])
        groups = {"positive": arrays[f"gate_scores[{site}]"].tolist(), "neutral": arrays[f"gate_scores_neutral[{site}]"].tolist()}
        figure = histograms(f"Gate at {site}", groups, "score; the edit acts above 0")
        figure.add_vline(x=0, line={"width": 1, "dash": "dot"})
        rows = [{"site": site, "group": name, "tokens": len(values)} for name, values in groups.items()]
        says = f"{passes:.0%} of held-out answer tokens pass, {leaks:.1%} of held-out neutral tokens."
        found.append(Picture(f"gate-{i}", figure, rows, says, "The two should lie apart: answers right of the line, neutral text left."))
    return tuple(found)
