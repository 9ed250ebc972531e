"""Memory of a screen that is kept open all day: next to nothing for the cyclic collector to do, and a collector that is
not in the way.
"""

from __future__ import annotations

import gc

from tui.widgets.strips import free_of_cycles

THRESHOLDS = (10_000, 20, 100)
"""Of the collector's three generations: ten thousand rows are live and acyclic, and full collections cost frames."""

TIDY = 60.0
"""Seconds between two looks at what is young, some milliseconds each: what cycles there are do not pile up."""


def tidy() -> None:
    """Free what became garbage lately."""
    gc.collect(1)


def settle() -> None:
    """For a process that shows the deck, once everything is imported: what was imported stays, and is not looked at."""
    free_of_cycles()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
