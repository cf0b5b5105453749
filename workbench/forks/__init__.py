"""Score lanes at the price of what differs: one pass of the unedited model, from which each lane departs at the first block it changes.

Three savings, none of which changes a number beyond rounding. A prompt that several answers share runs once, and the answers read its
cache. Lanes begin at the input of the first block in which they differ from the unedited model. Logits are formed only where a token is
scored, a chunk at a time. What the unedited pass left at the forks is kept for the next evaluation of the same rows, up to a limit.

Where a model cannot begin in the middle (no `blocks`), or an edit has to see a whole row at once, all is run plainly, row by row.
"""

from workbench.forks.kept import forget
from workbench.forks.passes import can_fork, fork_of, runs_apart
from workbench.forks.recurring import Recurring
from workbench.forks.scores import LOGITS_AT_ONCE, continuation_log_probs, divergences, predicting, widened

__all__ = [
    "LOGITS_AT_ONCE",
    "Recurring",
    "can_fork",
    "continuation_log_probs",
    "divergences",
    "forget",
    "fork_of",
    "predicting",
    "runs_apart",
    "widened",
]
