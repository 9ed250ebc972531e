"""Options of the whole suite."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which cluster the tests with the marker ``realnode`` run on."""
    parser.addoption(
        "--cluster",
        choices=["node", "up", "kind", "existing"],
        default="node",
        help="node: one made here for the session; up: that of packaging/cluster.sh up, which stays; kind: one made by "
        "kind (needs Docker); existing: that of KUBECONFIG",
    )
