"""Inspect: the fit that the Jacobian lens reads through: what is kept for this model, what a new one costs, and the button."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit import frame, jobs, words
from pages._ui.kit.figures import table_panel
from workbench.errors import StorageFailed

if TYPE_CHECKING:
    from workbench.lenses.jacobian_fit import JacobianFit
    from workbench.progress import Progress
    from workbench.session import Session

FIT: jobs.Slot[Fitting, JacobianFit] = jobs.Slot("jacobian-fit")
_TEXTS = [1, 2, 4, 8, 16, 32]


@dataclass(frozen=True)
class Fitting:
    """How many texts, and the first layer that is carried to the last."""

    n: int
    first_layer: int


def fitted(session: Session) -> JacobianFit | None:
    """Draw the fit that is at hand, or how to make one; return it."""
    fit = _kept(session)
    if fit is None:
        with st.container(border=True, key="jacobian-none"):
            st.markdown("The Jacobian lens is fitted once for a model; its fit is kept in the workspace.")
            _form(session)
        return None
    with st.expander(f"Fitted on {words.plain(fit.told)}, layers {fit.layers[0]} to {fit.layers[-1]}", key="jacobian-fit"):
        sure = fit.agreement[len(fit.agreement) // 2]
        if sure == sure:
            st.caption(
                f"Two halves of the texts give matrices with a cosine of {sure:.2f} in the middle layer. Near 1, more texts change little."
            )
        table_panel(fit.rows(), words.provenance(model=fit.model, n=words.count(fit.n_texts, "text")), key="jacobian-rows")
        _form(session)
    return fit


def _kept(session: Session) -> JacobianFit | None:
    try:
        return session.lens_fit()
    except StorageFailed as damaged:
        frame.problem(damaged, "jacobian-kept")
        return None


def _form(session: Session) -> None:
    from workbench.lenses.jacobian_fit import FIT_TEXTS, fit_cost

    with st.container(horizontal=True, vertical_alignment="bottom"):
        n = st.select_slider("Texts", _TEXTS, FIT_TEXTS, key="jacobian-n", width=200, help="Of the kind that the model reads or writes.")
        layers = list(range(session.model.info.n_layers - 1))
        first = st.selectbox("From layer", layers, key="jacobian-from", width=120, help="Later layers alone cost less.")
        frame.act("Fit the lens", _fit, Fitting(n, first), key="jacobian-run", type="primary")
    cost = fit_cost(session.model, n, first)
    told = f"{words.count(cost.n_gradients, 'gradient')}, about {words.seconds(cost.seconds)} as busy as this machine is now"
    st.caption(f"Costs {told}; {words.size(cost.n_bytes)} are kept. It can be stopped at any time.")
    jobs.panel(FIT, lambda _: None)


def _fit(settings: Fitting) -> None:
    def work(session: Session, progress: Progress) -> JacobianFit:
        return session.look("jacobian_fit", n=settings.n, first_layer=settings.first_layer, progress=progress)

    jobs.start(FIT, "Fitting the Jacobian lens", work, settings)
