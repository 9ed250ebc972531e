"""CRDs of users: served like the product's own, refused by name where the embedded server cannot keep a promise."""

from __future__ import annotations

import time
from typing import Any

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
TOYS = "/apis/example.com/v1/toys"
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}


def toys(**size: Any) -> dict[str, Any]:
    """A CRD with a default, a bound, an int-or-string and a printed column; ``size`` adds to one field's schema."""
    properties = {
        "size": {"type": "integer", "default": 3, "maximum": 9, **size},
        "port": {"x-kubernetes-int-or-string": True},
    }
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
    }
    spec = {"group": "example.com", "scope": "Cluster", "names": {"plural": "toys", "kind": "Toy"}}
    return {"metadata": {"name": "toys.example.com"}, "spec": {**spec, "versions": [version]}}


def toy_named(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "example.com/v1", "kind": "Toy", "metadata": {"name": name}, "spec": spec}


def await_code(server: Any, path: str, wanted: int) -> None:
    """Returns once GET answers ``wanted``: a real server takes a moment to serve or drop a CRD (at most 20 s)."""
    end = time.monotonic() + 20
    while server.request("GET", path)[0] != wanted:
        assert time.monotonic() < end, f"{path} never answered {wanted}"
        time.sleep(0.05)


def test_a_users_crd_is_served(apiserver: Any) -> None:
    """Objects get defaults, lose unknown fields, are held to bounds, and are printed with the CRD's columns."""
    assert apiserver.request("POST", CRDS, toys())[0] == 201
    await_code(apiserver, TOYS, 200)
    code, toy = apiserver.request("POST", TOYS, toy_named("t", port="http", junk=1))
    assert (code, toy["spec"]) == (201, {"port": "http", "size": 3})
    code, status = apiserver.request("POST", TOYS, toy_named("u", size=10))
    assert code == 422 and "spec.size" in status["message"] and "less than or equal to 9" in status["message"]
    table = apiserver.request("GET", TOYS, headers=TABLE)[1]
    assert table["rows"][0]["cells"] == ["t", 3]
    assert apiserver.request("DELETE", f"{CRDS}/toys.example.com")[0] == 200
    await_code(apiserver, TOYS, 404)


def test_rules_beyond_the_subset_are_refused(embedded_apiserver: Any) -> None:
    """A CEL rule that the embedded server cannot evaluate is refused with the function's name, never ignored."""
    rule = {"x-kubernetes-validations": [{"rule": "self.fold(1)"}]}
    code, status = embedded_apiserver.request("POST", CRDS, toys(**rule))
    assert code == 422 and "'fold' is not supported" in status["message"]
