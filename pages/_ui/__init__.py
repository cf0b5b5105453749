'''What pages share: `kit`, which every page uses, and a folder a page for its own panels.

A page is a file of `pages/`, named in the menu of `app.py`. Whole and working:

    """How does the model cut this prompt?"""

    from __future__ import annotations

    from dataclasses import dataclass
    from typing import TYPE_CHECKING

    from pages._ui.kit import frame, jobs, words
    from pages._ui.kit.backend import ready
    from pages._ui.kit.components import token_strip
    from pages._ui.kit.prompts import prompt

    if TYPE_CHECKING:  # a page must not wait for torch
        from workbench.session import Prompt, Session

    CUT: jobs.Slot[Asked, tuple[str, ...]] = jobs.Slot("cut")


    @dataclass(frozen=True)
    class Asked:
        """What the result comes from: equal settings, equal result."""

        prompt: Prompt


    def main(session: Session) -> None:
        asked = Asked(prompt(session, "Prompt", "Anna sees the cat", key="cut-prompt"))
        frame.act("Cut", _begin, asked, key="cut-run", type="primary")
        nothing = lambda: frame.empty("The tokens will stand here.", "Press *Cut*.", key="cut")
        jobs.panel(CUT, lambda tokens: _draw(session, tokens), settings=asked, nothing=nothing)


    def _begin(asked: Asked) -> None:
        jobs.start(CUT, "Cutting", lambda session, progress: session.token_texts(asked.prompt)[0], asked)


    def _draw(session: Session, tokens: tuple[str, ...]) -> None:
        token_strip(tokens, key="cut-strip")
        frame.source(words.provenance(model=session.model.info.name, n=words.count(len(tokens), "token")), "cut")


    frame.page("Cut", __doc__ or "")
    if (opened := ready()) is not None:
        main(opened)

- `kit.prompts`: a prompt box, with the switch *Chat* where the model has a template (`kit.prompts.prompt`), and one for several prompts.
- `kit.frame`: title and question (`kit.frame.page`), a button that acts on what the controls say now (`kit.frame.act`), the empty and
  the failed state (`kit.frame.empty`, `kit.frame.problem`), what a picture means and where it is from (`kit.frame.meaning`,
  `kit.frame.source`).
- `kit.jobs`: anything over a moment. A `kit.jobs.Slot` is a place for one job and its result, typed by both; `kit.jobs.start` runs in it,
  `kit.jobs.panel` draws it empty, running, failed or done, `kit.jobs.result` reads it from another page.
- `kit.state`: what this tab chose (`kit.state.state`), and a record of its own for each part of a page (`kit.state.part`).
- `kit.figures.figure_panel`: a figure with its sentence, table, downloads and source; `kit.figures.table_panel` the same for a table.
- `kit.components.token_strip`, `kit.components.grid`: clickable, each with a twin for the keyboard.
- `kit.forms.knob_form`: the form of a config's knobs. `kit.scope`: layers and heads that are carried to the form of Edit.
- `kit.lanes`: the edits at hand (`kit.lanes.known_edits`) and the lanes that are on (`kit.lanes.usable_lanes`, `kit.lanes.with_base`).
  `kit.methods`: the registered methods, and why one cannot run here (`kit.methods.obstacles`).
- `kit.words`: numbers, times and names as people say them; `kit.words.provenance` is the line under every number.
'''
