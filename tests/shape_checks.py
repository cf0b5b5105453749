"""The checker that runs over the package while tests run: beartype, with the shapes of jaxtyping.

An int is a float to it, as it is to pyright. `Self` is not checked: jaxtyping decorates methods one by one, where beartype knows no class.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Self

import jaxtyping
from beartype import BeartypeConf, BeartypeHintOverrides, beartype

_LIKE_PYRIGHT = BeartypeConf(is_pep484_tower=True, hint_overrides=BeartypeHintOverrides({Self: Any}))


def checked(function: Any) -> Any:
    """Decorate a function with checks of its arguments and its result."""
    return beartype(conf=_LIKE_PYRIGHT)(function)


@contextmanager
def unchecked() -> Generator[None]:
    """Call the package with what no annotation allows, as a user can: what it says then is its own."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
