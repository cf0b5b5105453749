"""Where an answer could have gone another way: force one token, let every lane go on from there, and keep the ways as a tree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import final

from workbench.errors import BadPrompt, UnknownName
from workbench.evaluate.comparison import Comparison
from workbench.settings import CompareSettings


def forked(of: CompareSettings, found: Comparison, prompt: int, lane: int, at: int, token: int) -> CompareSettings:
    """The comparison in which every lane begins as one lane's answer did before its token `at`, then says `token`, then goes on freely.

    Args:
        of: what the comparison came from. It is asked anew for the one prompt; the number of free tokens stays.
        prompt, lane, at: where in `found.texts`; `at` may be the length of the answer, to go on behind its end.

    Raises:
        BadPrompt: there is no such place.
    """
    places = found.texts[prompt] if 0 <= prompt < len(found.texts) else ()
    if not 0 <= lane < len(places) or not 0 <= at <= len(places[lane].tokens):
        raise BadPrompt(f"There is no token {at} of lane {lane} after prompt {prompt}.", "Name a token that the comparison shows.")
    begun = (*(one.id for one in places[lane].tokens[:at]), token)
    before = max(map(len, of.forced), default=0)
    n = of.sampling.max_new_tokens - before + len(begun)
    return replace(of, prompts=(found.prompts[prompt],), sampling=replace(of.sampling, max_new_tokens=n), forced=(begun,))


@final
@dataclass(frozen=True)
class Branch:
    """One way: what was forced, behind how many tokens of which lane's answer, and what came of it. `parent` is None at the root."""

    settings: CompareSettings
    found: Comparison
    parent: int | None = None
    lane: int = 0
    at: int = 0
    word: str = ""
    name: str = ""
    is_pinned: bool = False

    @property
    def title(self) -> str:
        """Its name, else the word that was forced."""
        return self.name or (f"{self.word!r} at token {self.at}" if self.parent is not None else "as it was said")


@final
@dataclass(frozen=True)
class Branches:
    """A tree of branches of one prompt's answers, the root first. Every change is another tree; a number stays that of its branch."""

    nodes: tuple[Branch | None, ...] = ()

    def with_branch(self, branch: Branch) -> Branches:
        """One more branch. Raises: UnknownName: its parent is not there."""
        if branch.parent is not None:
            self.branch(branch.parent)
        return Branches((*self.nodes, branch))

    def branch(self, number: int) -> Branch:
        """A branch by its number. Raises: UnknownName."""
        found = self.nodes[number] if 0 <= number < len(self.nodes) else None
        if found is None:
            raise UnknownName("branch", str(number), [str(i) for i, node in enumerate(self.nodes) if node is not None])
        return found

    def changed(self, number: int, **fields: object) -> Branches:
        """The tree with fields of one branch changed: `name`, `is_pinned`. Raises: UnknownName."""
        new = replace(self.branch(number), **fields)
        return Branches(tuple(new if i == number else node for i, node in enumerate(self.nodes)))

    def without(self, number: int) -> Branches:
        """The tree without a branch and all that grew from it, but for what is pinned, which is kept with the way to it.

        Raises: UnknownName.
        """
        self.branch(number)
        kept = {up for i, node in enumerate(self.nodes) if node is not None and node.is_pinned for up in self.path(i)}
        below = {i for i, node in enumerate(self.nodes) if node is not None and number in self.path(i)}
        return Branches(tuple(None if i in below - kept else node for i, node in enumerate(self.nodes)))

    def path(self, number: int) -> tuple[int, ...]:
        """The way from the root to a branch. Raises: UnknownName."""
        parent = self.branch(number).parent
        return (number,) if parent is None else (*self.path(parent), number)

    def walk(self) -> tuple[tuple[int, int], ...]:
        """(depth, number) of every branch, each before those that grew from it; pinned ones before their sisters."""
        return tuple(self._under(None, 0))

    def _under(self, parent: int | None, depth: int) -> Iterator[tuple[int, int]]:
        mine = [(not node.is_pinned, i) for i, node in enumerate(self.nodes) if node is not None and node.parent == parent]
        for _, i in sorted(mine):
            yield depth, i
            yield from self._under(i, depth + 1)
