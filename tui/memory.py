"""Memory of a screen that is kept open all day: nothing for the cyclic collector to do, and a collector that is not in
the way.
"""

from __future__ import annotations

import gc

from tui.widgets.strips import free_of_cycles

THRESHOLDS = (50_000, 20, 100)
"""Of the collector's three generations: ten thousand rows are live and acyclic, and full collections cost frames."""


def settle() -> None:
    """For a process that shows the deck, once everything is imported: what was imported stays, and is not looked at."""
    free_of_cycles()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
