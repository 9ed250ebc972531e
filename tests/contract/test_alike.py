"""What a user of kubectl sees is the same on the embedded cluster and on a real one, word for word.

The same commands run against both, each server in a namespace of the same name; what differs by nature (uids, versions,
ages, addresses) is replaced before the comparison. A step that fails on both must fail with the same words. Left out on
purpose is a JSON patch that cannot be applied: the embedded server says which operation and why, the real one does not.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

KUBECTL = os.environ.get("APPLIANCE_TEST_KUBECTL") or shutil.which("kubectl")
pytestmark = [
    pytest.mark.realkube,
    pytest.mark.kubectl,
    pytest.mark.skipif(
        KUBECTL is None,
        reason="kubectl is missing: packaging/kubectl/build.sh makes it, APPLIANCE_TEST_KUBECTL names it",
    ),
]
SPACE = "alike"
SEED = (Path(__file__).parents[1] / "e2e" / "seed" / "sandboxset.yaml").read_text().replace("namespace: default", "")
TEMPLATE = {"spec": {"containers": [{"name": "c", "image": "i"}]}}
KINDS = {
    "sandbox": "Sandbox",
    "set": "SandboxSet",
    "claim": "SandboxClaim",
    "template": "SandboxTemplate",
    "updateops": "SandboxUpdateOps",
    "checkpoint": "Checkpoint",
}


@dataclass(frozen=True)
class Step:
    """One command: ``kubectl ARGUMENTS`` with ``stdin``."""

    name: str
    arguments: tuple[str, ...]
    stdin: str | None = None


def step(name: str, command: str, stdin: Any = None) -> Step:
    """A step from a command line without quoting; ``stdin`` may be an object."""
    text = stdin if stdin is None or isinstance(stdin, str) else yaml.safe_dump(stdin)
    return Step(name, tuple(command.split()), text)


def ours(kind: str, name: str, spec: Any, **meta: Any) -> dict[str, Any]:
    """An object of the product's group."""
    version = "agents.kruise.io/v1alpha1"
    return {"apiVersion": version, "kind": KINDS[kind], "metadata": {"name": name, **meta}, "spec": spec}


def refused(name: str, kind: str, spec: Any) -> Step:
    """An object that must not be accepted."""
    return step(f"refused: {name}", "create -f -", ours(kind, "bad", spec))


def status(name: str, target: str, content: Any) -> Step:
    """A write of an object's status."""
    patch = json.dumps({"status": content})
    return Step(name, ("patch", *target.split(), "--type=merge", "--subresource=status", "-p", patch))


def pod(name: str, image: str) -> dict[str, Any]:
    """A pod bound to a node of its own word."""
    spec = {"nodeName": "box", "containers": [{"name": "c", "image": image}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"a": "b"}}, "spec": spec}


RUNNING = {
    "phase": "Running",
    "podIP": "10.0.0.9",
    "podIPs": [{"ip": "10.0.0.9"}],
    "conditions": [{"type": "Ready", "status": "True"}],
    "containerStatuses": [
        {"name": "c", "image": "i", "imageID": "", "ready": True, "restartCount": 2, "state": {"running": {}}}
    ],
}
NODE = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": {"kubernetes.io/hostname": "n1"}}}
LIST = "get sbs,sbx,sbc"
STEPS = [
    step("the kinds", "api-resources --api-group=agents.kruise.io --no-headers"),
    step("explain", "explain sbs.spec"),
    step("explain a leaf", "explain sbx.spec.paused"),
    step("explain everything", "explain sbc.spec --recursive"),
    step("explain what is not there", "explain sbs.spec.nothing"),
    step("empty list", "get sbs"),
    step("absent object", "get sbs nobody"),
    step("seed", "apply -f -", SEED),
    step("seed again", "apply -f -", SEED),
    step("sets", "get sbs"),
    step("sets, wide", "get sbs -o wide"),
    step("a set as YAML", "get sbs code-interpreter -o yaml"),
    step("a set described", "describe sbs code-interpreter"),
    step("scale", "scale sbs code-interpreter --replicas=5"),
    step("scale of an absent set", "scale sbs nobody --replicas=5"),
    step("scale with a wrong precondition", "scale sbs code-interpreter --replicas=6 --current-replicas=9"),
    step("sandbox", "create -f -", ours("sandbox", "one", {"template": TEMPLATE})),
    step("sandbox, twice", "create -f -", ours("sandbox", "one", {"template": TEMPLATE})),
    step("claim", "create -f -", ours("claim", "c1", {"templateName": "code-interpreter"})),
    step("defaults of a claim", "get sbc c1 -o yaml"),
    step("template", "create -f -", ours("template", "t1", {"template": TEMPLATE})),
    status("status of a sandbox", "sbx one", {"phase": "Running", "observedGeneration": 1}),
    step("our lists", LIST),
    step("our lists, wide", LIST + " -o wide"),
    step("templates", "get sandboxtemplates"),
    step("a sandbox as YAML", "get sbx one -o yaml"),
    step("columns of one's own", "get sbx -o custom-columns=N:.metadata.name,P:.status.phase"),
    step("label", "label sbx one a=b"),
    step("selected", "get sbx -l a=b,!c --show-labels"),
    step("bad selector", "get sbx -l a=b=c"),
    step("bad field selector", "get sbx --field-selector=spec.paused=true"),
    step("patch with a wrong type", "patch sbx one --type=merge -p {\"spec\":{\"paused\":\"yes\"}}"),
    step("patch with an unknown field", "patch sbx one --type=merge -p {\"spec\":{\"nothing\":1}}"),
    step("patch of an immutable field", "patch sbc c1 --type=merge -p {\"spec\":{\"replicas\":3}}"),
    step("strategic patch of a custom object", "patch sbx one --type=strategic -p {\"spec\":{\"paused\":true}}"),
    step("unknown field", "apply -f -", ours("sandbox", "odd", {"template": TEMPLATE, "nothing": 1})),
    step("absent namespace", "-n nowhere create -f -", ours("sandbox", "one", {"template": TEMPLATE})),
    refused("no template", "sandbox", {}),
    refused("two templates", "sandbox", {"template": TEMPLATE, "templateRef": {"name": "t"}}),
    refused("unknown pause", "sandbox", {"template": TEMPLATE, "pauseStrategy": {"type": "Nap"}}),
    refused("no date", "sandbox", {"template": TEMPLATE, "shutdownTime": "soon"}),
    refused("wrong type", "sandbox", {"template": TEMPLATE, "paused": "yes"}),
    refused("no replicas", "set", {"template": TEMPLATE}),
    refused("negative replicas", "set", {"template": TEMPLATE, "replicas": -1}),
    refused("words for a number", "set", {"template": TEMPLATE, "replicas": "three"}),
    refused("bad percentage", "set",
            {"template": TEMPLATE, "replicas": 1, "scaleStrategy": {"maxUnavailable": "many"}}),
    refused("no template name", "claim", {}),
    refused("no replicas wanted", "claim", {"templateName": "t", "replicas": 0}),
    refused("too short", "claim", {"templateName": "t", "claimTimeout": "100ms"}),
    step("refused: bad name", "create -f -", ours("sandbox", "A_b", {"template": TEMPLATE})),
    step("refused: bad label", "create -f -", ours("sandbox", "b", {"template": TEMPLATE}, labels={"a": "b c"})),
    step("server-side apply", "apply --server-side -f -", ours("sandbox", "owned", {"template": TEMPLATE})),
    step("a conflict", "apply --server-side --field-manager=other -f -",
         ours("sandbox", "owned", {"template": {"spec": {"containers": [{"name": "c", "image": "j"}]}}})),
    step("a pod", "apply -f -", pod("p", "x:1")),
    step("a pending pod", "get pods"),
    status("a running pod", "pod p", RUNNING),
    step("pods", "get pods"),
    step("pods, wide", "get pods -o wide"),
    step("a pod's image", "apply -f -", pod("p", "x:2")),
    step("a pod's fixed field", "patch pod p -p {\"spec\":{\"nodeName\":\"other\"}}"),
    step("a diff", "diff -f -", pod("p", "x:3")),
    step("secret", "create secret generic s --from-literal=key=value"),
    step("config map", "create configmap c --from-literal=a=b"),
    step("secrets and config maps", "get secrets,configmaps --field-selector=metadata.name!=kube-root-ca.crt"),
    step("a described config map", "describe configmap c"),
    step("node", "create -f -", NODE),
    step("nodes", "get nodes n1"),
    step("namespaces", f"get namespace {SPACE}"),
    step("may I", "auth can-i create pods"),
    step("what is not served", "get nothings"),
    step("delete by label", "delete sbx -l a=b"),
    step("delete", "delete sbs code-interpreter"),
    step("delete what is gone", "delete sbs code-interpreter"),
    step("delete a pod at once", "delete pod p --force --grace-period=0"),
]  # fmt: skip
BY_NATURE = [
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UID"),
    (r'(resourceVersion: )"\d+"', r"\1VERSION"),
    (r"(Resource Version: +)\d+", r"\1VERSION"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME"),
    (r"127\.0\.0\.1:\d+", "SERVER"),
    (r"(?<=[ \n])\d+m?s(?=[ \n]|$)", "AGE"),
    (r"/tmp/\S+", "FILE"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ \+\d+", "TIME"),
    (r"(?s)(may not change fields other than .*?negative\)\n).*", r"\1DUMP"),
]
"""What two clusters cannot have in common, and the words that stand for it. The last: a real one adds Go structs."""


class Session:
    """kubectl's words on one server."""

    def __init__(self, server: Any, home: Path) -> None:
        self._env = {"PATH": os.environ["PATH"], "HOME": str(home), "KUBECONFIG": str(server.kubeconfig)}
        body = {"metadata": {"name": SPACE}}
        assert server.request("POST", "/api/v1/namespaces", body)[0] == 201
        self.said = {each.name: self._run(each) for each in STEPS}

    def _run(self, step: Step) -> str:
        arguments = step.arguments if step.arguments[0] == "-n" else ("-n", SPACE, *step.arguments)
        done = subprocess.run(
            [str(KUBECTL), *arguments], input=step.stdin, capture_output=True, text=True, timeout=60, env=self._env,
            check=False,
        )  # fmt: skip
        said = f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        for pattern, word in BY_NATURE:
            said = re.sub(pattern, word, said)
        return re.sub(r" +", " ", said)  # columns are as wide as the ages in them


@pytest.fixture(scope="module")
def sessions(
    embedded_apiserver: Any, real_apiserver: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Session, Session]:
    """The whole script, once on each server."""
    homes = [tmp_path_factory.mktemp(name) for name in ("embedded", "real")]
    return Session(embedded_apiserver, homes[0]), Session(real_apiserver, homes[1])


@pytest.mark.parametrize("name", [each.name for each in STEPS])
def test_kubectl_says_the_same(sessions: tuple[Session, Session], name: str) -> None:
    """One step's output, errors and exit code are equal on both servers."""
    embedded, real = sessions
    assert embedded.said[name] == real.said[name]
