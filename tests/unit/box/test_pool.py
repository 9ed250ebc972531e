"""The pool of a first start."""

from __future__ import annotations

from appliance.box import pool
from appliance.config import MIB, NodeSettings
from appliance.manager.sizes import sizes_of


def test_the_api_tells_the_disk_that_the_node_gives() -> None:
    """The manifest names what a sandbox of the box has: diskSizeMB is that, not 0 for "not said"."""
    template = pool.manifest(1)["spec"]["template"]
    sizes = sizes_of(template)
    assert (sizes.cpu_count, sizes.memory_mb) == (1, 1024)
    assert sizes.disk_mb == NodeSettings().disk_default // MIB
