"""Creating a sandbox: from a checked request body to a claim, and back to what the client gets.

``plan`` is pure: it settles every option or refuses it by name, before anything is taken from a pool. The claim itself
(pick, one guarded write, /init, network) is the engine's; when it fails, nothing is left behind.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import msgspec

from appliance.api import labels
from appliance.api.header_rules import HeaderRules
from appliance.claims.engine import ClaimEngine
from appliance.claims.errors import ClaimError, ClaimTimeout, NetworkRefused, NoStock, TemplateNotFound, UpdateFailed
from appliance.claims.pledges import Pledges
from appliance.claims.request import ClaimRequest
from appliance.manager import deadlines, metadata, network, options
from appliance.manager.bodies import NewSandbox
from appliance.manager.deadlines import Timers
from appliance.manager.errors import Fault, busy, invalid, template_not_found, unsupported
from appliance.manager.keys.model import ApiKey
from appliance.manager.metadata import Metadata
from appliance.manager.network import Network
from appliance.manager.options import Options
from appliance.manager.roster import Entry
from appliance.manager.runstate import FILESYSTEM
from appliance.manager.templates import Templates, alias_used

_ENV_NAME = re.compile(r"[^=\x00]{1,1024}")
MAX_ENV_BYTES = 512 * 1024
"""Of all environment variables together; they are kept in a Secret, which holds at most 1 MiB."""


@dataclass(frozen=True)
class Plan:
    """A create, settled."""

    options: Options
    metadata: Metadata
    network: Network
    env: Mapping[str, str]
    timers: Timers

    def marked(self, request: str, body: str) -> Plan:
        """The plan with its idempotency digests, to be kept on the sandbox."""
        return replace(self, options=msgspec.structs.replace(self.options, request=request, request_body=body))

    def claim(self, namespace: str | None, template: str, owner: str) -> ClaimRequest:
        """The engine's request."""
        extensions = self.metadata.extensions
        lifecycle = {labels.E2B_LIFECYCLE: options.encode(self.options)}
        cut = {key: value for key, value in self.network.labels.items() if value is not None}
        files_only = {} if self.options.auto_pause_memory else {labels.PAUSE_CONTENTS: FILESYSTEM}
        closed = {key: value for key, value in self.network.annotations.items() if value is not None}
        return ClaimRequest(
            namespace=namespace,
            template=template,
            owner=owner,
            labels={**self.metadata.labels, **cut, **request_label(self.options.request)},
            annotations={
                **self.metadata.annotations,
                **metadata.retention_annotation(extensions.retention),
                **lifecycle,
                **files_only,
                **closed,
            },
            env=self.env,
            rules=self._rules(),
            shutdown_at=self.timers.shutdown,
            pause_at=self.timers.pause,
            create_on_no_stock=extensions.create_on_no_stock,
            skip_init=extensions.skip_init,
            timeout=extensions.claim_timeout or 60.0,
            ready_timeout=extensions.ready_timeout,
            life_from_delivery=True,
            secure=self.options.secure,
            update=extensions.update,
            noted=self.options.request is None,  # with an idempotency key the client comes back for it
        )

    def _rules(self) -> HeaderRules | None:
        """With an authority of their own."""
        if not self.network.rules:
            return None
        from appliance.claims.authority import new_authority  # few need it

        return HeaderRules(dict(self.network.rules), new_authority())


def plan(body: NewSandbox, *, v2: bool, now: datetime, max_timeout: int) -> Plan:
    """Settle every option of a create. Raises Fault 400 naming the one that is wrong or cannot be honoured."""
    _refuse_unsupported(body)
    timeout = check_timeout(body.timeout, default=300 if v2 else 15, maximum=max_timeout)
    # v2 has no such field: every sandbox is secured. v1 leaves it to the client.
    secure = True if v2 else bool(body.secure)
    wanted = network.plan(body.network, body.allow_internet_access, secure=secure)
    sorted_out = metadata.sort_out(body.metadata or {})
    if wanted.rules and sorted_out.extensions.skip_init:
        raise Fault(400, "network.rules need the sandbox's /init, which skip-init-runtime leaves out")
    auto_pause = bool(body.auto_pause)
    settled = Options(
        timeout=timeout,
        auto_pause=auto_pause,
        auto_pause_memory=body.auto_pause_memory is not False,
        auto_resume=body.auto_resume is not None and body.auto_resume.enabled,
        secure=secure and not sorted_out.extensions.skip_init,  # without /init the runtime has no token to demand
        internet=body.allow_internet_access,
        network=wanted.echo,
        public=wanted.public,
        mask_host=wanted.mask_host,
        https_ports=wanted.https_ports,
        return_ip=sorted_out.extensions.return_ip,
        alias=alias_used(body.template_id),
    )
    timers = Timers()
    if not sorted_out.extensions.never_timeout:
        retention = sorted_out.extensions.retention
        timers = deadlines.running(now, timeout, auto_pause=auto_pause, retention=retention)
    return Plan(settled, sorted_out, wanted, check_env(body.env_vars or {}), timers)


def check_timeout(given: int | None, *, default: int, maximum: int) -> int:
    """A time-out in seconds, greater than 0 and at most ``maximum``."""
    timeout = default if given is None else given
    if timeout <= 0:
        raise Fault(400, "Timeout must be greater than 0")
    if timeout > maximum:
        raise Fault(400, f"Timeout cannot be greater than {maximum // 3600} hours")
    return timeout


def check_env(env: Mapping[str, str]) -> Mapping[str, str]:
    """Environment variables that a process can be given."""
    for name, value in env.items():
        if _ENV_NAME.fullmatch(name) is None:
            raise invalid("envVars", f"expected a variable name without = and NUL, got {name[:80]!r}")
        if "\x00" in value:
            raise invalid(f"envVars.{name}", "expected a value without NUL")
    if sum(len(name) + len(value) for name, value in env.items()) > MAX_ENV_BYTES:
        raise invalid("envVars", f"expected at most {MAX_ENV_BYTES} bytes in all")
    return env


def _refuse_unsupported(body: NewSandbox) -> None:
    # mcp is accepted: the SDK starts the gateway inside the sandbox itself (contract §1.18).
    if body.volume_mounts:
        raise unsupported("volumeMounts")
    if body.iam and body.iam.get("tokens"):
        raise unsupported("iam.tokens")
    if body.auto_pause_memory is False:
        if not body.auto_pause:
            raise Fault(400, "autoPauseMemory: false needs autoPause: true")
        if body.auto_resume is not None and body.auto_resume.enabled:
            raise Fault(400, "autoPauseMemory: false cannot be combined with autoResume.enabled: true")


def request_label(digest: str | None) -> dict[str, str]:
    """The label by which every manager finds what an idempotent request made; none without a key."""
    return {} if digest is None else {labels.REQUEST: digest[:40]}


class Creator:
    """Runs planned creates."""

    def __init__(
        self, engine: ClaimEngine, templates: Templates, find: Callable[[str], Entry | None], pledges: Pledges
    ) -> None:
        self._engine = engine
        self._templates = templates
        self._find = find
        self._pledges = pledges

    async def create(self, key: ApiKey, template: str, planned: Plan) -> Entry:
        """Claim a sandbox for the key; whoever answers closes its pledge (``receipts.py``).

        Raises Fault 400, 404, 429, 500, 503 or 504, and KubeError.
        """
        namespace, name = self._templates.resolve(key, template)
        try:
            claimed = await self._engine.claim(planned.claim(namespace, name, key.id))
        except TemplateNotFound:
            raise template_not_found(template) from None
        except NoStock as error:
            raise busy(str(error), error.retry_after, error_code="sandbox_capacity_unavailable") from error
        except ClaimTimeout as error:
            raise Fault(504, str(error), error_code="sandbox_placement_timeout") from error
        except UpdateFailed as error:
            status, word = (504, "sandbox_placement_timeout") if error.timed_out else (400, "sandbox_update_failed")
            raise Fault(status, str(error), error_code=word) from error
        except NetworkRefused as error:
            raise Fault(400, str(error), error_code="sandbox_create_failed") from error
        except ClaimError as error:
            raise Fault(500, str(error), error_code="sandbox_create_failed") from error
        entry = self._find(claimed.sandbox_id)
        if entry is None:
            self._pledges.close(claimed.sandbox_id)
            raise Fault(500, "the sandbox died as it was delivered", error_code="sandbox_create_failed")
        return entry

    async def finish(self, key: ApiKey, planned: Plan, entry: Entry) -> None:
        """Make sure of a sandbox that another manager took for the same request, and may have died over.

        Raises Fault 503 when its runtime cannot be initialised, KubeError.
        """
        sandbox = entry.sandbox
        try:
            await self._engine.complete(sandbox, planned.claim(sandbox.namespace, entry.template, key.id))
        except ClaimError as error:
            raise Fault(503, str(error), error_code="sandbox_create_failed", headers={"Retry-After": "1"}) from error
