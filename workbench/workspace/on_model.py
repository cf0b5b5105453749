"""What a session knows of its model, and how it takes another in its place."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.conversations import Prompt
from workbench.edits.lane import LaneLike
from workbench.errors import BadPrompt
from workbench.lenses import registry as lens_registry
from workbench.methods.shared.needs import Obstacle
from workbench.models import catalog
from workbench.models.base import LanguageModel
from workbench.models.listing import Entry, entries
from workbench.models.token_texts import token_texts
from workbench.progress import Progress
from workbench.resources import models_of
from workbench.workspace.edit_shelf import EditShelf
from workbench.workspace.home import Workspace
from workbench.workspace.lens_fits import kept_fit
from workbench.workspace.model_facts import capabilities, next_tokens, weight_bytes

if TYPE_CHECKING:
    from workbench.lenses.jacobian_fit import JacobianFit


class OnModel(ABC):
    """Whatever stands on one loaded model, its edits kept on a shelf."""

    def __init__(self, model: LanguageModel, home: Workspace | str | Path | None, shelf: EditShelf):
        self.model, self.shelf = model, shelf
        self._home: Workspace | str | Path | None = home
        self.shelf.knows(model.fingerprint)

    @property
    @abstractmethod
    def workspace(self) -> Workspace:
        """Where what is made is kept."""

    def load(self, name: str, *, progress: Progress | None = None, **options: Any) -> LanguageModel:
        """Load another model in place of this one; if that fails, this one stays. Options and errors: `catalog.load`."""
        self.model = catalog.load(name, models=self._models, progress=progress, **options)
        self.shelf.knows(self.model.fingerprint)
        return self.model

    def catalog(self) -> tuple[Entry, ...]:
        """The models that can be chosen without typing anything."""
        return entries(self._models)

    def estimate(self, name: str, **options: Any) -> catalog.MemoryEstimate:
        """What a model would need, before it is loaded. Options and errors: `catalog.estimate`."""
        return catalog.estimate(name, models=self._models, **options)

    def get_model(self, name: str, *, progress: Progress | None = None) -> Path:
        """Fetch a recommended model into this workspace and return its folder. Errors: `fetching.fetch`."""
        return catalog.fetch_recommended(name, self._models, progress=progress)

    def model_note(self, name: str) -> str:
        """What to know of a model's files before trusting its numbers. Errors: `catalog.note`."""
        return catalog.note(name, self._models)

    @property
    def _models(self) -> Path:
        return models_of(self._home.folder if isinstance(self._home, Workspace) else self._home)

    def weight_bytes(self) -> int:
        """Memory that the weights take, each counted once, in bytes."""
        return weight_bytes(self.model)

    def capabilities(self) -> list[dict[str, str]]:
        """What works on this model and what does not, as table rows."""
        return capabilities(self.model)

    def lens_obstacles(self, lens: str) -> tuple[Obstacle, ...]:
        """Why a lens cannot look at this model, told before it is asked to; empty if it can. Raises: UnknownName."""
        return lens_registry.obstacles_of(lens, self.model)

    def lens_fit(self) -> JacobianFit | None:
        """The Jacobian lens that was fitted on this model last; None if none was. Raises: StorageFailed: its file is damaged."""
        return kept_fit(self.workspace.folder, self.model)

    def next_tokens(self, prompt: Prompt, k: int = 10, edits: LaneLike = ()) -> list[tuple[str, float]]:
        """The k likeliest next tokens with their probabilities, under a lane."""
        return next_tokens(self.model, prompt, k, self.shelf.stack(edits))

    def n_tokens(self, prompt: Prompt) -> int:
        """How many tokens the model reads of a prompt; none of what it cannot read."""
        try:
            return int(self.model.tokens(prompt).ids.shape[1])
        except BadPrompt:
            return 0

    def token_texts(self, prompt: Prompt, continuation: str | None = None) -> tuple[tuple[str, ...], int]:
        """The tokens of a prompt and its continuation, and how many of them are the prompt's."""
        batch = self.model.tokens(prompt, continuation)
        return token_texts(self.model.tokenizer, batch.ids[0]), int(batch.n_prompt[0])
