"""The E2B API's resources: one blueprint a file. Handlers parse, call one service, and render; nothing else."""

from appliance.manager.api import keys, lifecycle, logs, operations, sandboxes, tags, teams, templates, unsupported

BLUEPRINTS = (
    sandboxes.blueprint,
    lifecycle.blueprint,
    templates.blueprint,
    logs.blueprint,
    teams.blueprint,
    tags.blueprint,
    keys.blueprint,
    operations.blueprint,
    unsupported.blueprint,
)
ANONYMOUS = operations.ANONYMOUS
"""Endpoints that need no key."""
