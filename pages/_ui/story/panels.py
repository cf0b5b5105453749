"""Story: one edit in one place: its verdict, the rows it harms, what it says, what its fit found, and where it came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import streamlit as st

from pages._ui.edit import fits
from pages._ui.evaluate import evaluations, influence
from pages._ui.kit import frame, jobs, scope, words
from pages._ui.kit.figures import table_panel
from pages._ui.kit.frame import meaning
from pages._ui.kit.lanes import own_dose
from pages._ui.kit.place_choice import place_key
from pages._ui.kit.state import state
from workbench.edits.lane import Lane, Named
from workbench.errors import RetouchError
from workbench.place import read_place
from workbench.settings import CompareSettings, EvaluateSettings

if TYPE_CHECKING:
    from workbench.evaluate.comparison import Comparison
    from workbench.evaluate.evaluation import Evaluation
    from workbench.progress import Progress
    from workbench.session import Session
    from workbench.workspace.runs import Run
    from workbench.workspace.story import EditStory

N_TEXTS, SECONDS = 3, 20.0
MEASURED: jobs.Slot[EvaluateSettings, Evaluation] = jobs.Slot("story-measure")
SAID: jobs.Slot[tuple[str, float], Comparison] = jobs.Slot("story-say")


def draw(session: Session, key: str) -> None:
    """The whole story of an edit."""
    from workbench.workspace.story import edit_story

    try:
        story = edit_story(session.shelf, session.workspace, key)
    except RetouchError as error:
        frame.problem(error, "story")
        return
    if story.info is None:  # at the dose that its fit was judged at
        story = replace(story, edit=story.edit.dosed(own_dose(session, key)))
    fits_here = story.edit.header.model.same_model(session.model.fingerprint)
    _head(session, key, story, fits_here)
    st.header("What it does", anchor=False)
    _verdict(session, story, fits_here)
    st.header("What the model says with it", anchor=False)
    _texts(session, story, fits_here)
    st.header("What its fit found", anchor=False)
    _fit(session, story)
    st.header("Where it came from", anchor=False)
    _origin(story)


def _head(session: Session, key: str, story: EditStory, fits_here: bool) -> None:
    head, dose = story.edit.header, story.edit.dose
    st.header(words.plain(story.name), anchor=False)
    frame.source(words.provenance(model=head.model.name, method=head.method, edit=story.edit.id, dose=f"{dose:g}", seed=head.seed), "story")
    if story.edit.place:
        st.caption(f"It acts {words.plain(read_place(story.edit.place).label)}.")
    if not fits_here:
        st.caption(f":orange[It was fitted on {words.plain(head.model.name)}; another model is open, so it can only be read about here.]")
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Compare", type="primary", key="story-compare", disabled=not fits_here):
            state().turn_on(key, dose)
            st.switch_page("pages/compare.py")
        if st.button("Evaluate", key="story-evaluate", disabled=not fits_here):
            state().turn_on(key, dose)
            st.session_state["evaluate-edits"] = [key]
            st.switch_page("pages/evaluate.py")
        if story.info is None:
            fits.save_popover(session, key, dose, "", key="story")
        else:
            with st.popover("Rename"):
                name = st.text_input("New name", story.info.name, key=f"story-name-{story.info.id}")
                frame.act("Rename edit", _rename, session, story.info.id, name, key="story-rename", disabled=not name.strip())
        if st.button("Fit again with its settings", key="story-again", help="The form of Edit, as it was for this fit."):
            state().set_name = _source(session, story) or state().set_name
            st.session_state[place_key(head.method)] = story.edit.place
            scope.hand_knobs(head.method, dict(head.config), story.name, said="all its knobs")
            st.switch_page("pages/edit.py")


def _rename(session: Session, edit: str, name: str) -> None:
    session.workspace.edits.rename(edit, name.strip())


def _verdict(session: Session, story: EditStory, fits_here: bool) -> None:
    """The last measurement on record; where there is none, the sentence it was saved with, and the way to one."""
    source = _source(session, story) if fits_here else ""
    if story.measured:
        _recorded(story.measured[0], story, source)
    elif story.info is not None and story.info.verdict:
        meaning(words.plain(story.info.verdict), "story")
        st.caption("Said when it was saved; no measurement of it is on record here.")
    else:
        st.caption("It was not measured yet.")
    if not source:
        return
    wanted = EvaluateSettings((_lane(story),), source, seconds=SECONDS)
    frame.act("Measure it again" if story.measured else "Measure it on held-out rows", _measure, wanted, key="story-measure")
    jobs.panel(MEASURED, lambda found: _fresh(found, wanted, story), settings=wanted)


def _fresh(found: Evaluation, wanted: EvaluateSettings, story: EditStory) -> None:
    """A measurement made here: it is on record by now, and stands above."""
    if jobs.settings_of(MEASURED) == wanted and story.measured:
        with st.expander("All its numbers"):
            evaluations.draw_all(found, key="story")


def _measure(wanted: EvaluateSettings) -> None:
    jobs.start(MEASURED, "Measuring", lambda session, progress: session.run(wanted, progress=progress), wanted, heavy=True)


def _recorded(run: Run, story: EditStory, source: str) -> None:
    told: Mapping[str, str] = run.outputs.get("verdict") or {}
    if told:
        meaning(words.markdown(told["sentence"]), "story")
        st.caption(words.markdown(told["detail"]))
    doses = [part["dose"] for lane in run.inputs["lanes"][:1] for part in lane]
    data = str(run.inputs.get("demonstrations", ""))
    others = len(story.measured) - 1
    facts = {"data": data, "split": run.inputs.get("split"), "dose": f"{doses[0]:g}", "when": words.ago(run.created)}
    told_of = words.provenance(
        model=run.model, **facts, run=f"run {run.id}", others=f"{words.count(others, 'older one')}" if others else ""
    )
    table_panel(_rounded(run.outputs.get("rows", ())), told_of, key="story-rows")
    _harmed(run.outputs.get("moved", ()), story.edit.id, str(run.inputs.get("split")), source)


def _harmed(rows: Sequence[Mapping[str, Any]], edit: str, split: str, source: str) -> None:
    """The rows that it harms, the worst first, and the way to the demonstrations behind a chosen one, where the set of its fit is here."""
    harmed = [row for row in rows if row["moved"] == "wrong way" or str(row["turned"]).endswith("wrong")]
    if not rows:
        return
    st.markdown(f"**{words.count(len(harmed), 'row')} of {len(rows):,}** moved the wrong way.")
    if harmed:
        shown = ("prompt", "turned", "before", "after", "gain", "answer before", "answer after", "tags")
        picked = st.dataframe(
            _rounded([{name: row.get(name, "") for name in shown} for row in harmed]), hide_index=True, width="stretch", key="story-harmed",
            height=min(280, 38 + 35 * len(harmed)), on_select="rerun", selection_mode="single-row",
        ).selection["rows"]  # fmt: skip
        chosen = harmed[picked[0]] if picked and picked[0] < len(harmed) else None
        if source and st.button(
            "Which demonstrations did it", key="story-blame", help="Those behind the chosen row, or all, and the fit again without them."
        ):
            state().set_name = source
            influence.ask(edit, "" if chosen is None else str(chosen["prompt"]), split)


def _rounded(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Table rows as people read them, without columns in which no row says anything."""
    said = {name for row in rows for name, value in row.items() if value not in ("", None)}
    return [{name: round(value, 4) if isinstance(value, float) else value for name, value in row.items() if name in said} for row in rows]


def _lane(story: EditStory) -> Lane:
    return Lane((Named(story.edit.id, story.edit.dose),))


def _source(session: Session, story: EditStory) -> str:
    """The set that it was fitted on, if it is still here."""
    return session.demos.called(story.demonstrations)


def _texts(session: Session, story: EditStory, fits_here: bool) -> None:
    """The texts of the last comparison on record, base beside edit."""
    if story.compared:
        run = story.compared[0]
        rows = cast("Sequence[Mapping[str, Any]]", run.outputs.get("rows", ()))
        for prompt in list(dict.fromkeys(str(row["prompt"]) for row in rows))[:N_TEXTS]:
            st.caption(words.plain(prompt))
            mine = [row for row in rows if row["prompt"] == prompt][:4]
            for column, row in zip(st.columns(len(mine)), mine):
                with column.container(border=True):
                    st.caption(words.plain(str(row["lane"])))
                    st.text(str(row["text"]).strip() or "(nothing)")
        st.caption(f"From a comparison {words.ago(run.created)}; *Library*, *Runs* opens it again.")
    else:
        st.caption("No comparison with it is on record.")
    source = _source(session, story) if fits_here else ""
    if source and not story.compared:
        settings = (story.edit.id, story.edit.dose)
        frame.act(f"Answer {N_TEXTS} held-out prompts", _say, story, source, key="story-say")
        jobs.panel(SAID, lambda _: None, settings=settings)


def _say(story: EditStory, source: str) -> None:
    def work(session: Session, progress: Progress) -> Comparison:
        from workbench.workspace.rendering import as_read

        head = story.edit.header
        rows = as_read(session.model, session.demos.resolve(source, None).split("test").first(N_TEXTS), None, head.system, [story.edit])
        return session.run(CompareSettings(tuple(rows.prompts()), (_lane(story),), session.model.generation.sampling()), progress=progress)

    jobs.start(SAID, "Answering", work, (story.edit.id, story.edit.dose))


def _fit(session: Session, story: EditStory) -> None:
    report = session.report(story.info.id if story.info else story.edit.id)
    if report is None:
        st.caption("It was brought from elsewhere, without the report of its fit.")
        return
    fits.notices(report)
    fits.pictures(report, fits.caption(story.edit), prefix="story")


def _origin(story: EditStory) -> None:
    """Method, settings that are not as by default, rows, seed, versions, and when."""
    from workbench.workspace.asked_fit import AskedFit, written_json

    head, made = story.edit.header, story.made
    facts: dict[str, object] = {"method": head.method, "demonstrations": story.demonstrations or "not on record", "data": head.data[:12]}
    if made is not None:
        facts |= {"rows fitted": made.inputs.get("n"), "fitted": words.ago(made.created), "run": made.id}
    facts |= {"seed": head.seed, "model": head.model.name, "rendered": head.rendered}
    facts |= {"saved": "no" if story.info is None else words.ago(story.info.created), **head.versions}
    st.dataframe(
        [{"what": name, "value": str(value)} for name, value in facts.items() if value not in ("", None)], hide_index=True, width="stretch",
        key="story-origin",
    )  # fmt: skip
    try:
        asked = AskedFit(
            head.method,
            story.demonstrations or "?",
            dict(head.config),
            head.seed,
            story.edit.dose,
            place=story.edit.place,
            model=head.model.name,
        )
    except RetouchError:  # a knob of an older version that is no more: the folder still has it
        st.json(dict(head.config), expanded=False)
        return
    with st.expander("Its settings, as JSON"):
        st.code(written_json(asked), language="json")
