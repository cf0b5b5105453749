"""Spectra: the cut moved by hand, and what two edits have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit import frame, jobs, scope, words
from pages._ui.kit.angles import ANGLES, compare_directions, pair_of
from pages._ui.kit.backend import session
from pages._ui.kit.components import drag_lines
from pages._ui.kit.figures import figure_panel
from pages._ui.kit.layers import layer_choice
from pages._ui.kit.place_choice import place_key

if TYPE_CHECKING:
    from workbench.edits.base import Edit
    from workbench.lenses.edit_angles import EditAngles
    from workbench.methods.registry import FitReport
    from workbench.progress import Progress
    from workbench.session import Session
    from workbench.workspace.recut import Recut

Cut = tuple[str, tuple[tuple[str, int], ...]]
# Its settings are the edit and the numbers of directions.
RECUT: jobs.Slot[Cut, Recut] = jobs.Slot("recut")


def has_cut(report: FitReport) -> bool:
    """Whether a report holds spectra that a cut can be moved on."""
    return "k_plus" in report.arrays and any(name.startswith("spectrum_plus[") for name in report.arrays)


def movable_cut(loaded: Edit, report: FitReport, source: str, *, prefix: str) -> None:
    """The spectrum of a layer with both cuts on sliders, what they would take, and the way to a fit with them."""
    from workbench.figures.spectra import spectrum

    arrays = report.arrays
    layer = layer_choice(arrays["layers"], f"{prefix}-layer")
    at = [int(x) for x in arrays["layers"]].index(layer)
    _take_click(f"{prefix}-cut", {side: f"{prefix}-{side}-{layer}" for side in ("plus", "minus")})
    fitted = {side: int(arrays[f"k_{side}"][at]) for side in ("plus", "minus")}
    chosen = {
        side: _slider(word, fitted[side], int(arrays[f"rank_{side}"][at]), f"{prefix}-{side}-{layer}")
        for side, word in (("plus", "Directions kept"), ("minus", "Directions dropped"))
    }
    shares = {side: float(arrays[f"cumulative_{side}[{layer}]"][chosen[side] - 1]) for side in chosen}
    says = (
        f"Layer {layer}: keeps {words.count(chosen['plus'], 'direction')} ({shares['plus']:.1%} of the squares), "
        f"drops {chosen['minus']} ({shares['minus']:.1%})."
    )
    if chosen != fitted:
        says += f" As fitted: {fitted['plus']} and {fitted['minus']}."
    rows = [
        {"side": word, "direction": j + 1, "singular value": float(value), "cumulative share": float(total), "taken": j < chosen[side]}
        for side, word in (("plus", "good"), ("minus", "bad"))
        for j, (value, total) in enumerate(zip(arrays[f"spectrum_{side}[{layer}]"], arrays[f"cumulative_{side}[{layer}]"]))
    ]
    figure_panel(
        spectrum(arrays, layer, chosen["plus"], chosen["minus"]), rows, source, key=f"{prefix}-cut", says=says,
        look_for="Drag a line, or click a mark, and the cut moves there. Move it to where the curve bends towards the grey line, which is "
        "noise as large as what is left out: open marks far above it are left out though they hold something.", selects=True, drags=True,
    )  # fmt: skip
    keys, ranks = [f"{prefix}-{side}-{layer}" for side in chosen], [int(arrays[f"rank_{side}"][at]) for side in chosen]

    def moved(line: int, x: float) -> None:
        st.session_state[keys[line]] = min(ranks[line], max(1, round(x - 0.5)))  # a line stands behind the last direction taken

    drag_lines(f"figure-{prefix}-cut", [layer, *chosen.values()], key=f"{prefix}-drag", on_moved=moved)
    # A report names these arrays after the knobs that set them.
    knobs = {f"k_{side}": n for side, n in chosen.items()}
    if knobs.keys() <= loaded.header.config.keys() and chosen != fitted:
        _says_with(loaded, knobs, prefix)
    if knobs.keys() <= loaded.header.config.keys() and st.button(
        "Fit with this cut", key=f"{prefix}-refit", disabled=chosen == fitted, help="The same numbers in every edited layer."
    ):
        st.session_state[place_key(loaded.header.method)] = loaded.place
        scope.hand_knobs(loaded.header.method, {**loaded.header.config, **knobs}, "Spectra", said=_said(knobs))
        st.switch_page("pages/edit.py")


def _take_click(key: str, sliders: Mapping[str, str]) -> None:
    """Move a cut to the mark that was clicked in the figure; each click counts once, and the sliders stay free after it."""
    event = st.session_state.get(f"{key}-plot")
    points = ((event or {}).get("selection") or {}).get("points", []) if hasattr(event, "get") else []
    picked = [(int(point["curve_number"]), int(point["x"])) for point in points if "curve_number" in point][-1:]
    if picked != st.session_state.get(f"{key}-clicked", []):
        st.session_state[f"{key}-clicked"] = picked
        for curve, direction in picked:
            if curve < len(sliders):  # behind them lies the grey reference
                st.session_state[list(sliders.values())[curve]] = direction


def _says_with(loaded: Edit, knobs: Mapping[str, int], prefix: str) -> None:
    """Fit with the cut as it stands now, and show what the model says, beside the edit as it is."""
    source = _source(loaded)
    if not source:
        st.caption("The set that it was fitted on is not here, so this cut cannot be tried.")
        return
    wanted = (loaded.id, tuple(sorted(knobs.items())))
    if jobs.settings_of(RECUT) != wanted and not jobs.is_running(RECUT) and st.session_state.get(f"{prefix}-tried") != wanted:
        st.session_state[f"{prefix}-tried"] = wanted  # one that failed is not begun again at every rerun
        _try(loaded.id, source, dict(knobs), wanted)
    told = jobs.settings_of(RECUT)
    if told is None or told[0] == loaded.id:  # of two edits side by side each has its own
        jobs.panel(RECUT, _texts, settings=wanted)


def _source(loaded: Edit) -> str:
    """The id of the set with the rows of an edit's fit, if it is still here."""
    opened = session()
    if opened is None:
        return ""
    from workbench.workspace.story import edit_story

    story = edit_story(opened.shelf, opened.workspace, loaded.id)
    return opened.demos.called(story.demonstrations)


def _try(edit: str, source: str, knobs: dict[str, int], wanted: Cut) -> None:
    def work(opened: Session, progress: Progress) -> Recut:
        from workbench.workspace.recut import recut

        return recut(opened.model, opened.load_edit(edit), opened.demos.resolve(source), knobs, progress=progress)

    jobs.start(RECUT, "Fitting with this cut", work, wanted)


def _texts(found: Recut) -> None:
    """Three texts after each prompt, side by side."""
    rows = [
        {"prompt": prompt, "untouched": base.strip(), "as fitted": was.strip(), "with this cut": now.strip(), "differs": was != now}
        for prompt, (base, was, now) in zip(found.prompts, found.texts)
    ]
    n = sum(bool(row["differs"]) for row in rows)
    st.caption(f"With this cut, {n} of {len(rows)} held-out answers differ from those of the edit as fitted.")
    st.dataframe(rows, hide_index=True, width="stretch", key=f"recut-{found.edit.id}")


def _slider(label: str, fitted: int, rank: int, key: str) -> int:
    if rank <= 1:
        st.caption(f"{label}: {fitted}, all there are.")
        return fitted
    st.session_state.setdefault(key, fitted)
    return st.slider(label, 1, rank, key=key)


def _said(knobs: Mapping[str, int]) -> str:
    return words.listed([f"{name.replace('_', ' ')} = {value}" for name, value in knobs.items()])


def angles(one: str, other: str) -> None:
    """Do both edits move the model in the same directions?"""
    st.header("What both have in common", anchor=False)
    settings = pair_of(one, other)
    frame.act("Compare their directions", compare_directions, settings, key="angles-run")
    jobs.panel(
        ANGLES, _angles, settings=settings,
        nothing=lambda: frame.empty(
            "The angles between what each edit adds to the residual stream will stand here, beside random directions.",
            "Press *Compare their directions*.", key="angles",
        ),
    )  # fmt: skip


def _angles(found: EditAngles) -> None:
    from workbench.figures.geometry import angle_layers
    from workbench.figures.geometry import angles as angle_figure

    where = words.provenance(
        model=found.model, edits=" and ".join(found.edits), n=words.count(found.n_tokens, "token"), texts="neutral text",
        share=f"directions that hold {found.keep:.0%} of each edit's squares",
    )  # fmt: skip
    both = [layer for layer, cosines in zip(found.layers, found.cosines) if len(cosines)]
    if not both:
        st.caption("There is no layer that both edits move on these texts, so there is nothing to compare.")
        return
    left, right = st.columns(2, gap="large")
    with right:
        layer = layer_choice(both, "angles-layer")
        at = found.layers.index(layer)
        cosine, random = float(found.cosines[at][0]), float(found.random[at][0])
        figure_panel(
            angle_figure(found, layer), found.rows(), where, key="angles-layer-figure",
            says=f"Layer {layer}: the nearest directions have a cosine of {cosine:.2f}; random ones of equal number {random:.2f}.",
            look_for="Near 1: both edits push the same way there, and together they push twice. At the grey line: nothing in common.",
        )  # fmt: skip
    with left:
        figure_panel(
            angle_layers(found), found.rows(), where, key="angles-layers",
            look_for="Layers whose line stands clearly above the grey one: there both edits work in the same directions.",
        )  # fmt: skip
