"""Serving CustomResourceDefinitions: the registry follows what is committed; a deleted CRD takes its objects along."""

from __future__ import annotations

import logging

from appliance.embedded.apiserver.objects.crd_rules import resource_of
from appliance.embedded.apiserver.resources import Registry, Resource
from appliance.embedded.apiserver.status import FieldError
from appliance.embedded.apiserver.store.history import Change
from appliance.embedded.apiserver.store.record import Record

log = logging.getLogger(__name__)
CRDS = "customresourcedefinitions.apiextensions.k8s.io"
FINALIZER = "customresourcecleanup.apiextensions.k8s.io"


def serve_crd(registry: Registry, record: Record) -> Resource | None:
    """Serves the kind of a stored CRD; logs and skips one that is no longer understood."""
    errors: list[FieldError] = []
    resource = resource_of(record.object(), errors)
    if resource is None:
        log.error("not serving %s: %s", record.name, "; ".join(map(str, errors)))
        return None
    registry.put(resource)
    return resource


def follow(registry: Registry, changes: list[Change]) -> None:
    """A store listener: applies committed CRD changes to the registry."""
    for change in changes:
        if change.record.resource != CRDS:
            continue
        if change.kind == "DELETED":
            registry.drop(change.record.name)
        else:
            serve_crd(registry, change.record)
