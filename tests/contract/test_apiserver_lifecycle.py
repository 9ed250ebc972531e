"""Deletion, garbage collection and survival of the API server's objects."""

from __future__ import annotations

import http.client
import json
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

MERGE = "application/merge-patch+json"


def configmap(name: str, *owners: Any, **meta: Any) -> dict[str, Any]:
    refs = [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": o["metadata"]["name"], "uid": o["metadata"]["uid"],
         "blockOwnerDeletion": True} for o in owners
    ]  # fmt: skip
    return {"metadata": {"name": name, **({"ownerReferences": refs} if refs else {}), **meta}}


def gone(server: Any, path: str, name: str) -> None:
    """Returns once the watch of a namespace's ConfigMaps tells that ``name`` is deleted (at most 10 s)."""
    connection = server.connection(timeout=10)
    headers = {"Authorization": f"Bearer {server.token}"}
    connection.request("GET", f"{path}?watch=true&fieldSelector=metadata.name%3D{name}", headers=headers)
    answer = connection.getresponse()
    try:
        if server.request("GET", f"{path}/{name}")[0] != 404:
            while json.loads(answer.readline())["type"] != "DELETED":
                pass
    finally:
        answer.close()
        connection.close()


def test_background_collection_spares_the_freed(apiserver: Any, namespace: str) -> None:
    """Deleting an owner deletes its dependents, except those that lost the reference or have another owner."""
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    owner = apiserver.request("POST", path, configmap("owner"))[1]
    other = apiserver.request("POST", path, configmap("other"))[1]
    apiserver.request("POST", path, configmap("claimed", owner))
    apiserver.request("POST", path, configmap("shared", owner, other))
    apiserver.request("POST", path, configmap("owned", owner))
    apiserver.request("PATCH", f"{path}/claimed", {"metadata": {"ownerReferences": []}}, media=MERGE)
    apiserver.request("DELETE", f"{path}/owner")
    gone(apiserver, path, "owned")
    assert apiserver.request("GET", f"{path}/claimed")[0] == 200
    assert apiserver.request("GET", f"{path}/shared")[0] == 200


def test_foreground_and_orphan(apiserver: Any, namespace: str) -> None:
    """Foreground removes dependents before the owner; Orphan leaves them without the reference."""
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    for policy in ("Foreground", "Orphan"):
        owner = apiserver.request("POST", path, configmap("owner"))[1]
        apiserver.request("POST", path, configmap("child", owner))
        code, left = apiserver.request("DELETE", f"{path}/owner", {"propagationPolicy": policy})
        assert code == 200 and left["metadata"]["deletionTimestamp"]
        gone(apiserver, path, "owner")
        code, child = apiserver.request("GET", f"{path}/child")
        assert code == (404 if policy == "Foreground" else 200)
    assert "ownerReferences" not in child["metadata"]


def test_finalizer_holds_and_preconditions(apiserver: Any, namespace: str) -> None:
    """An object with a finalizer stays until it is removed; a wrong uid precondition is 409."""
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    apiserver.request("POST", path, configmap("a", finalizers=["x.example/y"]))
    assert apiserver.request("DELETE", f"{path}/a", {"preconditions": {"uid": "no"}})[0] == 409
    assert apiserver.request("DELETE", f"{path}/a")[1]["metadata"]["deletionTimestamp"]
    assert apiserver.request("GET", f"{path}/a")[0] == 200
    apiserver.request("PATCH", f"{path}/a", {"metadata": {"finalizers": None}}, media=MERGE)
    assert apiserver.request("GET", f"{path}/a")[0] == 404


def test_pod_grace_is_the_nodes(apiserver: Any, namespace: str) -> None:
    """A bound pod stays Terminating until the node deletes it with grace 0."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    spec = {"nodeName": "box", "containers": [{"name": "c", "image": "i"}]}
    apiserver.request("POST", path, {"metadata": {"name": "p"}, "spec": spec})
    _, pod = apiserver.request("DELETE", f"{path}/p", {"gracePeriodSeconds": 5})
    assert pod["metadata"]["deletionGracePeriodSeconds"] == 5 and pod["spec"]["nodeName"] == "box"
    assert apiserver.request("DELETE", f"{path}/p", {"gracePeriodSeconds": 0})[0] == 200
    assert apiserver.request("GET", f"{path}/p")[0] == 404


def test_namespace_empties_itself(apiserver: Any, namespace: str) -> None:
    """A deleted namespace takes its objects along, and refuses new ones meanwhile."""
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    apiserver.request("POST", path, configmap("a", finalizers=["x.example/y"]))
    assert apiserver.request("DELETE", f"/api/v1/namespaces/{namespace}")[1]["status"]["phase"] == "Terminating"
    code, status = apiserver.request("POST", path, configmap("b"))
    assert code == 403 and "being terminated" in status["message"]
    apiserver.request("PATCH", f"{path}/a", {"metadata": {"finalizers": None}}, media=MERGE)
    gone(apiserver, "/api/v1/namespaces", namespace)


def test_acknowledged_writes_survive_kill(own_embedded: Callable[..., Any]) -> None:
    """kill -9 under parallel writes: everything acknowledged is there after the restart, and versions only rise."""
    server = own_embedded()
    path = "/api/v1/namespaces/default/configmaps"
    acknowledged: list[tuple[str, int]] = []
    enough = threading.Event()

    def write(worker: int) -> None:
        for number in range(100_000):
            try:
                code, made = server.request("POST", path, configmap(f"w{worker}-{number}"))
            except (OSError, http.client.HTTPException, ValueError):
                return
            if code == 201:
                acknowledged.append((made["metadata"]["name"], int(made["metadata"]["resourceVersion"])))
            if len(acknowledged) > 200:
                enough.set()

    workers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for worker in workers:
        worker.start()
    assert enough.wait(30)
    server.stop(signal.SIGKILL)
    for worker in workers:
        worker.join()
    server.start()
    listing = server.request("GET", path)[1]
    kept = {item["metadata"]["name"]: int(item["metadata"]["resourceVersion"]) for item in listing["items"]}
    assert all(kept.get(name) == version for name, version in acknowledged)
    assert int(listing["metadata"]["resourceVersion"]) >= max(kept.values())


def test_foreign_and_damaged_files_are_refused(own_embedded: Callable[..., Any], tmp_path: Any) -> None:
    """A store file that is not ours, or not a database, is refused with words and left as it was."""
    for content in ("foreign", "garbage"):
        data = tmp_path / content
        (data / "store").mkdir(parents=True)
        file = data / "store" / "state.db"
        if content == "foreign":
            connection = sqlite3.connect(file)
            connection.execute("CREATE TABLE mine (x)")
            connection.commit()
            connection.close()
        else:
            file.write_bytes(b"this is not a database" * 100)
        before = file.read_bytes()
        program = (
            "import asyncio,sys;from pathlib import Path;from appliance.config import ApiServerSettings;"
            "from appliance.embedded.apiserver.main import run;"
            "asyncio.run(run(ApiServerSettings(data_dir=Path(sys.argv[1]),listen='127.0.0.1:0')))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, str(data)], capture_output=True, text=True, timeout=20, check=False
        )
        assert done.returncode != 0 and "cannot be used" in done.stderr and str(file) in done.stderr
        assert file.read_bytes() == before
