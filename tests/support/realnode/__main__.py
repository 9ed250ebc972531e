"""``python -m realnode up|down|kubectl …``: a real cluster for people. See ``packaging/cluster.sh``."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from realnode import roles
from realnode.cluster import RealNode, missing
from realnode.layout import Layout

ROOT = Path(os.environ.get("APPLIANCE_CLUSTER_DIR", "/tmp/appliance-cluster"))
USAGE = "usage: packaging/cluster.sh up [--bare] | down | kubectl WORDS… | env"


def up(*, bare: bool) -> int:
    """Start the node and, unless ``bare``, the product with the seed's pool of two."""
    if reason := missing():
        print(f"error: {reason}", file=sys.stderr)
        return 1
    if Layout(ROOT).control.exists():
        print(f"error: {ROOT} holds a cluster already; packaging/cluster.sh down ends it", file=sys.stderr)
        return 1
    node = RealNode(ROOT, detached=True)
    try:
        if bare:
            node.up()
        else:
            with tempfile.TemporaryDirectory() as directory:
                cloud = roles.start(node, Path(directory))
            cloud.apply(roles.seed(2))
            exports = "".join(f"export {name}={value}\n" for name, value in cloud.env().items())
            (ROOT / "env").write_text(exports)
            (ROOT / "env").chmod(0o600)
    except BaseException:
        node.down()
        raise
    for name, seconds in node.laps.items():
        print(f"{seconds:6.1f} s  {name}", file=sys.stderr)
    print(f"export KUBECONFIG={node.layout.kubeconfig}")
    return 0 if bare else env()


def env() -> int:
    """What SDKs need, for ``eval``."""
    print((ROOT / "env").read_text(), end="")
    return 0


def main(words: list[str]) -> int:
    """Dispatch."""
    match words:
        case ["up"] | ["up", "--bare"]:
            return up(bare="--bare" in words)
        case ["down"]:
            RealNode(ROOT).down()
            return 0
        case ["env"]:
            return env()
        case ["kubectl", *rest]:
            kubectl = str(Path(os.environ["KUBEBUILDER_ASSETS"]) / "kubectl")
            return subprocess.call([kubectl, "--kubeconfig", str(Layout(ROOT).kubeconfig), *rest])
    print(USAGE, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
