"""The registered methods, and why one cannot run here. Looked up inside functions: a page must not wait for torch before it is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pages._ui.kit.backend import backend
from workbench.data.demonstrations import Demonstrations

if TYPE_CHECKING:
    from workbench.methods.registry import Method
    from workbench.methods.shared.needs import Obstacle
    from workbench.session import Session

_KEPT = 64


def method(name: str) -> Method:
    """A registered method. Raises: UnknownMethod."""
    from workbench.methods import get

    return get(name)


def obstacles(session: Session, demonstrations: Demonstrations) -> dict[str, tuple[Obstacle, ...]]:
    """Why each method cannot run here, by name, the simple ones first; found once for each model and set (some look closely)."""
    one, key = backend(), (session.model.fingerprint.weights, demonstrations.fingerprint)
    if key not in one.obstacles:
        found = {item.method.name: item.obstacles for item in session.methods(demonstrations)}
        with one.lock:
            one.obstacles[key] = found
            for old in list(one.obstacles)[: max(0, len(one.obstacles) - _KEPT)]:
                del one.obstacles[old]
    return one.obstacles[key]
