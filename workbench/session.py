"""The headless façade: what a page, a notebook and the command line call.

    session = open_session()
    fitted = session.fit("sea", "truthfulness", {"keep": 0.99}, seed=0)
    session.compare("Question: …", [fitted.edit, fitted.edit.scaled(2.0)])

Demonstrations are given as themselves, as the name of a set, or as a file; lanes as `edits.lane` writes them. Every method that takes
time takes `progress`. What is done is recorded in the workspace as runs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast, final

from workbench.conversations import Conversation, Prompt
from workbench.data.checks import Check, checks
from workbench.data.demonstrations import Source, Split
from workbench.decode import Generated, generate
from workbench.edits.base import Edit, ExportTarget, Stack
from workbench.edits.export import ExportReport, export
from workbench.edits.labels import edits_of, stack_of
from workbench.edits.lane import EditLike, Lane, LaneLike, LanesLike, valid_dose
from workbench.evaluate.comparison import Comparison
from workbench.evaluate.design.record import DesignSearch
from workbench.evaluate.dose import SWEPT, CoherentDose, DoseSweep
from workbench.evaluate.dose_plane import DosePlane
from workbench.evaluate.equal_damage import EqualDamage
from workbench.evaluate.evaluation import Evaluation
from workbench.evaluate.influence import Influence, Refit
from workbench.evaluate.off_target import OffTarget
from workbench.evaluate.protocol.ensemble import EnsembleSummary
from workbench.evaluate.protocol.scores import CanonicalSummary
from workbench.evaluate.watch import MOST_TOKENS, Watch
from workbench.lenses import registry as lens_registry
from workbench.methods.choice import Choice
from workbench.methods.registry import FitReport, Fitted
from workbench.models.base import LanguageModel
from workbench.models.token_texts import token_ids
from workbench.progress import Progress
from workbench.resources import EMBEDDED, PLANTED
from workbench.sampling import Sampling
from workbench.settings import (
    ChoiceSettings,
    CompareSettings,
    DesignSettings,
    DosePlaneSettings,
    EqualDamageSettings,
    EvaluateSettings,
    FitSettings,
    InfluenceSettings,
    OffTargetSettings,
    RefitSettings,
    Runnable,
)  # fmt: skip
from workbench.workspace.edit_shelf import EditShelf
from workbench.workspace.edits import EditInfo
from workbench.workspace.explaining import Explaining
from workbench.workspace.fitting import Fitting
from workbench.workspace.home import Workspace
from workbench.workspace.lens_fits import looked
from workbench.workspace.measuring import Measuring
from workbench.workspace.model_facts import Offered, offered
from workbench.workspace.on_model import OnModel
from workbench.workspace.recorder import Recorder
from workbench.workspace.running import run_settings
from workbench.workspace.shelf import Shelf
from workbench.workspace.shipped import Offer, ShippedSets

_Result = TypeVar("_Result")


@final
class Session(OnModel):
    """One model and one workspace. Safe to call from several threads."""

    def __init__(
        self, model: LanguageModel, workspace: Workspace | str | Path | None = None,
        *, records: bool = True, shelf: EditShelf | None = None,
    ):  # fmt: skip
        """Wrap a loaded model; the workspace is opened when it is first needed.

        Args:
            records: whether what is done is written into the workspace as runs.
            shelf: that of another session on this workspace, so that the fits at hand outlive their model.
        """
        self._lock = threading.Lock()
        self.demos = Shelf(lambda: self.workspace, ShippedSets(everyday_first=model.info.name not in (*EMBEDDED, PLANTED)))
        super().__init__(model, workspace, EditShelf(lambda: self.workspace, self.demos) if shelf is None else shelf)
        self.recorder = Recorder(lambda: self.workspace, records)
        self._fitting = Fitting(self.demos, self.shelf, self.recorder)
        self._measuring = Measuring(self.demos, self.shelf, self.recorder)

    @property
    def workspace(self) -> Workspace:
        """The workspace.

        Raises:
            StorageFailed: its folder cannot be written. NewerSchema: a newer version wrote it.
        """
        with self._lock:
            if not isinstance(self._home, Workspace):
                self._home = Workspace(self._home)
            return self._home

    # ── demonstrations ─────────────────────────────────────────────────────────────────────────────────────────
    def demo_sets(self) -> tuple[Offer, ...]:
        """Every demonstration set: the workspace's, then those that ship."""
        return self.demos.list()

    def checks(self, demonstrations: Source) -> tuple[Check, ...]:
        """What a set teaches besides what was meant, in this model's tokens."""
        return checks(self.demos.resolve(demonstrations), lambda text: token_ids(self.model, text))

    # ── fitting ────────────────────────────────────────────────────────────────────────────────────────────────
    def methods(self, demonstrations: Source | None = None) -> tuple[Offered, ...]:
        """Every method, the simple ones first, with its obstacles on this model and these demonstrations, or with any."""
        return offered(self.model, None if demonstrations is None else self.demos.resolve(demonstrations))

    def run(self, settings: Runnable[_Result], *, progress: Progress | None = None) -> _Result:
        """Do what settings say: the methods that put theirs together from arguments come here. Raises: as those."""
        return cast(_Result, run_settings(settings, self.model, self._fitting, self._measuring, progress))

    def fit(
        self, method: str, demonstrations: Source, config: Any = None, *, preset: str | None = None, seed: int = 0,
        chat: bool | None = None, system: str = "", place: str = "", progress: Progress | None = None,
    ) -> Fitted:  # fmt: skip
        """Fit an edit on the rows marked fit; the model is left as it was. Arguments are the fields of `FitSettings`.

        `config` is the method's config, or values for some of its knobs on top of the preset or the defaults.

        Raises:
            BadPrompt: chat without a template. BadPlace, BadLane: as `placed.check_place`.
            UnknownMethod, UnknownKnob, BadKnob, UnknownName: a word that is not known. Obstructed: it cannot run here.
        """
        made, values = (None, config or {}) if config is None or isinstance(config, Mapping) else (config, {})
        settings = FitSettings(method, demonstrations, values, preset, seed, chat=chat, system=system, place=place)
        return self._fitting.fit(self.model, settings, progress, made)

    def choose(
        self, method: str, demonstrations: Source, config: Mapping[str, object] | None = None, *, preset: str | None = None,
        max_damage: float = 0.02, seed: int = 0, chat: bool | None = None, system: str = "", place: str = "",
        progress: Progress | None = None, **options: Any,
    ) -> Choice:  # fmt: skip
        """Fit with the knobs and the dose that gain most on validation rows within a damage limit. Options and errors: `choice.chosen`.

        The edit that is remembered has dose 1; `best.dose` is the dose to use it at, `edit` is it at that dose.
        """
        how: dict[str, Any] = {"chat": chat, "system": system, "place": place, "max_damage": max_damage}
        settings = ChoiceSettings(method, demonstrations, config or {}, preset, seed, **how)
        return self._fitting.choose(self.model, settings, progress, **options)

    def proceed(self, edit: str, demonstrations: Source, budget: int, *, progress: Progress | None = None) -> Fitted:
        """Go on with the search that found an edit, on the same demonstrations, until `budget` calls were made in all.

        Raises:
            Obstructed: the method is no search, nothing of the search is kept, or the demonstrations are not those it ran on.
            BadKnob: the budget is used up already. Others: as `load_edit` and `fit`.
        """
        return self._fitting.proceed(self.model, edit, demonstrations, budget, progress)

    # ── edits ──────────────────────────────────────────────────────────────────────────────────────────────────
    def edits(self) -> tuple[EditInfo, ...]:
        """The saved edits of this workspace, of any model."""
        return self.workspace.edits.list()

    def save_edit(self, edit: EditLike, name: str, *, verdict: str = "") -> EditInfo:
        """Keep an edit in the workspace at its dose, with the report of its fit; each dose of a fit is one. Raises: StorageFailed."""
        return self.shelf.save(edit, name, verdict)

    def load_edit(self, key: str | Path) -> Edit:
        """An edit fitted here, saved in the workspace, or in a folder, at the dose it was saved at. Raises: as `EditShelf.edit`."""
        return self.shelf.edit(key)

    def lane(self, given: LaneLike) -> Lane:
        """The lane that something means, its edits loaded. Raises: as `EditShelf.lane`."""
        return self.shelf.lane(given)

    def stack(self, given: LaneLike) -> Stack:
        """The edits of a lane. Raises: as `lane`."""
        return self.shelf.stack(given)

    def edit_name(self, key: str) -> str:
        """What to call an edit: its saved name, else its method and the start of its id."""
        return self.shelf.name(key)

    def report(self, key: str) -> FitReport | None:
        """The report of an edit's fit, made here or kept with the saved edit; None if it was brought from elsewhere."""
        return self.shelf.report(key)

    def export(self, lane: LaneLike, target: ExportTarget, folder: str | Path, **options: Any) -> ExportReport:
        """Take a lane home, each edit at its dose. Options, errors: `edits.export.export`."""
        return export(self.model, self.stack(lane), target, folder, **options)

    # ── looking and measuring ──────────────────────────────────────────────────────────────────────────────────
    def lenses(self) -> tuple[str, ...]:
        """Names of the lenses."""
        return lens_registry.lens_names()

    def lens(self, name: str) -> Callable[..., Any]:
        """The function behind a lens; its first argument is the model. Raises: UnknownName."""
        return lens_registry.lens(name)

    def look(self, lens: str, *args: Any, stacks: LanesLike | None = None, **options: Any) -> Any:
        """Look through a lens, at each lane; arguments, result and errors are those of the function of that name in `lenses/`.

        A lens that needs a fit takes the one that the workspace keeps for this model; without one it is fitted first, and kept.
        """
        if stacks is not None:
            options["stacks"] = [stack_of(lane) for lane in self.shelf.lanes(stacks)]
        if lens_registry.fits(lens) or lens_registry.read_through(lens):
            return looked(self.workspace.folder, self.model, lens, args, options)
        return self.lens(lens)(self.model, *args, **options)

    def generate(
        self, prompts: Prompt | Sequence[Prompt], lanes: LanesLike = (), sampling: Sampling | None = None,
        *, progress: Progress | None = None,
    ) -> tuple[tuple[Generated, ...], ...]:  # fmt: skip
        """Continue prompts under each lane, by the model's own `sampling` if none is given; a tuple a lane. Errors: `decode.generate`."""
        how, asked = sampling or self.model.generation.sampling(), self.shelf.lanes(lanes)
        said = [lane.prompting for lane in asked]
        return generate(self.model, _several(prompts), [edits_of(lane) for lane in asked], how, said=said, progress=progress)

    def compare(
        self, prompts: Prompt | Sequence[Prompt], lanes: LanesLike, sampling: Sampling | None = None,
        *, forced: Sequence[Sequence[int]] = (), progress: Progress | None = None,
    ) -> Comparison:  # fmt: skip
        """Base and lanes side by side, token by token; `forced` as in `CompareSettings`. Errors: `evaluate.comparison.compare`."""
        how, begun = sampling or self.model.generation.sampling(), tuple(map(tuple, forced))
        settings = CompareSettings(tuple(_several(prompts)), self.shelf.lanes(lanes), how, begun)
        return self.run(settings, progress=progress)

    def evaluate(
        self, lanes: LanesLike, demonstrations: Source, *, split: Split | None = "test", neutral: Source | None = None, n_placebos: int = 3,
        n_generations: int = 16, chat: bool | None = None, system: str = "", shuffled: bool = False, seconds: float | None = None,
        progress: Progress | None = None,
    ) -> Evaluation:  # fmt: skip
        """What lanes gain on held-out rows and break on neutral text, beside placebos of equal size.

        `evaluate((a, b), …)` is one stack of two edits, `evaluate([a, b], …)` two lanes. The others are the fields of `EvaluateSettings`.

        Raises: BadLane, BadDose: as `edits.lane.lane_of`. Others: as `evaluate.evaluation.evaluation`.
        """
        told = (demonstrations, split, neutral, n_placebos, n_generations, chat, system, shuffled, seconds)
        return self.run(EvaluateSettings(self.shelf.lanes(lanes), *told), progress=progress)

    def sweep(
        self, edit: LaneLike, demonstrations: Source, doses: Sequence[float] = SWEPT, *, split: Split | None = "test",
        neutral: Source | None = None, beside: LanesLike = (), chat: bool | None = None, system: str = "", progress: Progress | None = None,
    ) -> DoseSweep:  # fmt: skip
        """Benefit and side effects of one edit at several doses, beside a placebo and perhaps other lanes, such as a prompt.

        What the edit's lane says stands at every dose above 0. `chat` and `system` as in `evaluate`.

        Raises: BadDose, BadLane; others as `dose_sweep`.
        """
        how = ([valid_dose(dose) for dose in doses], split, neutral, beside, (chat, system), progress)
        return self._measuring.sweep(self.model, edit, demonstrations, *how)

    def equal_damage(
        self, data: Source, methods: Sequence[str] = (), lanes: Sequence[LaneLike] = (), *, progress: Progress | None = None, **options: Any
    ) -> EqualDamage:
        """Methods, fitted with their defaults, and edits at hand, each at its dose of equal damage, beside prompts among the lanes.

        Options are the other fields of `EqualDamageSettings`. Raises: BadLane: a lane is neither one edit nor a prompt, or there is no
        edit. UnknownMethod. Others: as `evaluate.equal_damage.equal_damage`.
        """
        return self.run(EqualDamageSettings(data, tuple(methods), self.shelf.lanes(list(lanes)), **options), progress=progress)

    def influence(
        self, edit: LaneLike, data: Source, *, split: Split | None = "validation", n_refits: int = 40, progress: Progress | None = None
    ) -> Influence:
        """What each demonstration of an edit's fit does to each row of a split; the fields are those of `InfluenceSettings`.

        Raises: BadLane: it is no single edit. Obstructed: `data` is not the set of its fit. Others: as `evaluate.influence.influence`.
        """
        return self.run(InfluenceSettings(self.shelf.lane(edit), data, split, n_refits), progress=progress)

    def refit_without(
        self, edit: LaneLike, data: Source, drop: Sequence[str], *, split: Split | None = "test", progress: Progress | None = None
    ) -> Refit:
        """Fit an edit again without some demonstrations, by id or prompt, and measure both on a split that did not choose them.

        Raises: UnknownName: no demonstration of such an id or prompt. Others: as `influence` and `fit`.
        """
        return self.run(RefitSettings(self.shelf.lane(edit), data, tuple(drop), split), progress=progress)

    def off_target(
        self, edits: Sequence[LaneLike], data: Sequence[Source], *, protected: Sequence[Source] = (), progress: Progress | None = None,
        **options: Any,
    ) -> OffTarget:  # fmt: skip
        """What edits do to sets that they are not about, and to one another; options are the others of `OffTargetSettings`.

        Raises: BadLane: a lane is no single edit. Others: as `evaluate.off_target.off_target`.
        """
        settings = OffTargetSettings(self.shelf.lanes(list(edits)), tuple(data), tuple(protected), **options)
        return self.run(settings, progress=progress)

    def dose_plane(
        self, data: Source, layer: int, edits: Sequence[LaneLike] = (), *, split: Split | None = "validation", n_rows: int = 64,
        progress: Progress | None = None,
    ) -> DosePlane:  # fmt: skip
        """What turning the stream behind a layer and scaling it gains and breaks, and where edits stand there.

        Raises: BadLane: a lane is no single edit. Others: as `evaluate.dose_plane.dose_plane`.
        """
        return self.run(DosePlaneSettings(data, layer, self.shelf.lanes(list(edits)), split, n_rows), progress=progress)

    def watch(
        self, prompt: Prompt, lanes: LanesLike, max_new_tokens: int = MOST_TOKENS, sampling: Sampling | None = None,
        *, progress: Progress | None = None,
    ) -> Watch:  # fmt: skip
        """Let the untouched model and lanes write on until they loop, end or are full; greedy if not told. Errors: `watch.watch`."""
        return Explaining(self._fitting).watch(self.model, prompt, self.shelf.lanes(lanes), max_new_tokens, sampling, progress)

    def design_search(
        self, data: Source, methods: Sequence[str] = (), *, trials: int = 60, progress: Progress | None = None, **options: Any
    ) -> DesignSearch:
        """Search methods, layers, readings, knobs, gate and dose for gain against damage; the winners are measured once on test rows.

        Options are the other fields of `DesignSettings`. Raises: as `evaluate.design.search.design_search`.
        """
        return self.run(DesignSettings(data, tuple(methods), trials, **options), progress=progress)

    def coherent_dose(
        self, edit: EditLike, *, neutral: Source | None = None, progress: Progress | None = None, **options: Any
    ) -> CoherentDose:
        """The largest dose at which the model still speaks. Options and errors: `max_coherent_dose`."""
        return self._measuring.coherent_dose(self.model, edit, neutral, progress, options)

    def protocol(
        self, demonstrations: Source, method: str, *, progress: Progress | None = None, **options: Any
    ) -> tuple[CanonicalSummary, ...]:
        """Run the canonical-examples protocol of one method on one set. Options and errors: `evaluate.protocol.scores.protocol`.

        `rules` may be given as names and values: `{"compat": "official"}`.
        """
        return self._measuring.protocol(self.model, demonstrations, method, progress, options)

    def ensemble(
        self, demonstrations: Source, big: LanguageModel, method: str | None = None, *, progress: Progress | None = None, **options: Any
    ) -> tuple[tuple[EnsembleSummary, ...], tuple[CanonicalSummary, ...]]:
        """Fit senses of this Backpack by the protocol and lend each edit to a larger model. Options and errors: `ensemble_protocol`."""
        return self._measuring.ensemble(self.model, demonstrations, big, method, progress, options)


def _several(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    return [prompts] if isinstance(prompts, str | Conversation) else list(prompts)
