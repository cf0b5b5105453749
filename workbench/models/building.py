"""Networks are built one after the other.

While transformers reads one, it takes away every network's way to tie its weights, and puts back what it found there: of two that are
read at the same time, both lack tensors, and no later network of the process ties any. Ref: transformers.initialization.no_tie_weights.
"""

from __future__ import annotations

import threading

BUILDING = threading.RLock()
"""Held while transformers builds a network or reads its weights; who comes second waits."""
