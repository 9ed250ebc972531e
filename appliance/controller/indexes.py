"""Secondary keys of the controllers' informers, so that no reconcile ever scans all objects of a kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from appliance.api import labels
from appliance.api.conditions import ClaimPhase
from appliance.api.states import in_pool
from appliance.api.structs import Sandbox, SandboxClaim, SandboxSet, SandboxTemplate
from appliance.claims.indexes import SANDBOX_INDEXES as CLAIM_INDEXES

MEMBERS: Final = "members"
"""Sandbox by uid of the SandboxSet that controls it."""
TEMPLATE_USERS: Final = "template-users"
"""Sandbox, SandboxSet by ``namespace/name`` of the SandboxTemplate it refers to."""
OWNED: Final = "owned"
"""Sandbox by its owner annotation (claim UID or API key id)."""
REVISIONS: Final = "revisions"
"""SandboxTemplate by ``namespace/set`` for those a SandboxSet controller made."""
WAITING: Final = "waiting"
"""SandboxClaim that is not completed, by ``namespace/template``."""


def _members(sandbox: Sandbox) -> Iterable[str]:
    if in_pool(sandbox) and (owner := sandbox.meta.controller) is not None:
        yield owner.uid


def _template_users(item: Sandbox | SandboxSet) -> Iterable[str]:
    if item.spec.template_ref is not None:
        yield f"{item.namespace}/{item.spec.template_ref.name}"


def _owned(sandbox: Sandbox) -> Iterable[str]:
    owner = sandbox.meta.annotations.get(labels.OWNER)
    if owner:
        yield owner


def _revisions(template: SandboxTemplate) -> Iterable[str]:
    owner = template.meta.labels.get(labels.POOL)
    if owner:
        yield f"{template.namespace}/{owner}"


def _waiting(claim: SandboxClaim) -> Iterable[str]:
    if claim.status.phase != ClaimPhase.COMPLETED:
        yield f"{claim.namespace}/{claim.spec.template_name}"


SANDBOXES: Final[Mapping[str, Callable[[Sandbox], Iterable[str]]]] = {
    **CLAIM_INDEXES,
    MEMBERS: _members,
    TEMPLATE_USERS: _template_users,
    OWNED: _owned,
}
SETS: Final[Mapping[str, Callable[[SandboxSet], Iterable[str]]]] = {TEMPLATE_USERS: _template_users}
TEMPLATES: Final[Mapping[str, Callable[[SandboxTemplate], Iterable[str]]]] = {REVISIONS: _revisions}
CLAIMS: Final[Mapping[str, Callable[[SandboxClaim], Iterable[str]]]] = {WAITING: _waiting}
