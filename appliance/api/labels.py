"""Every label, annotation, finalizer and fixed name of the product, in one place.

The keys and their meaning follow the ``agents.kruise.io/v1alpha1`` system, so that manifests and tools written for
it keep working. Keys under ``appliance.`` are ours alone and are listed at the end.
"""

from typing import Final

GROUP: Final = "agents.kruise.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"

# Labels -----------------------------------------------------------------------------------------------------------
POOL: Final = f"{GROUP}/sandbox-pool"
"""Sandbox: name of the SandboxSet that made it; kept through the claim."""
TEMPLATE: Final = f"{GROUP}/sandbox-template"
"""Sandbox: the template name clients use, always the SandboxSet's name."""
TEMPLATE_HASH: Final = f"{GROUP}/template-hash"
"""Sandbox: the SandboxSet's updateRevision it was made from."""
CLAIMED: Final = f"{GROUP}/sandbox-claimed"
"""Sandbox: ``"true"`` once delivered, ``"false"`` in the pool."""
CLAIM_NAME: Final = f"{GROUP}/claim-name"
"""Sandbox: the SandboxClaim that took it."""
SANDBOX_ID: Final = f"{GROUP}/sandbox-id"
"""Sandbox: id of the current delivery, minted at each claim, never reused."""
SANDBOX_NAME: Final = f"{GROUP}/sandbox-name"
"""Pod: the Sandbox's name."""
RESERVED_FAILED: Final = f"{GROUP}/reserved-failed-sandbox"
UPDATE_OPS: Final = f"{GROUP}/update-ops"
"""Sandbox: name of the SandboxUpdateOps that changes it, or changed it last."""
UPGRADE_FAILED: Final = f"{GROUP}/upgrade-failed"
"""Sandbox: ``"true"`` after a SandboxUpdateOps could not change it."""
ALLOW_INTERNET: Final = f"{GROUP}/allow-internet-access"
"""Sandbox and Pod: ``"false"`` cuts the pod's outbound network; absent means allowed."""
CREATED_BY: Final = f"{GROUP}/created-by"
"""Pod (label and annotation): ``sandbox``; the filter of every pod informer."""
CREATED_BY_SANDBOX: Final = "sandbox"
OWNER: Final = f"{GROUP}/owner"
"""Sandbox annotation (mirrored as pod label): claim UID or API key id."""
POD_TEMPLATE_HASH: Final = "pod-template-hash"

# Annotations ------------------------------------------------------------------------------------------------------
LOCK: Final = f"{GROUP}/lock"
"""Sandbox: UUID of the claim attempt that took it."""
CLAIM_TIMESTAMP: Final = f"{GROUP}/claim-timestamp"
"""Sandbox: RFC 3339 (microseconds) instant of the delivery; E2B's ``startedAt``."""
RESTORE_FROM: Final = f"{GROUP}/restore-from"
RESERVE_PAUSED: Final = f"{GROUP}/reserve-paused-sandbox-duration"
"""Sandbox: ``forever`` or a Go duration a paused sandbox is kept."""
PRIORITY: Final = f"{GROUP}/sandbox-priority"
CLEANUP_CANDIDATE: Final = f"{GROUP}/cleanup-candidate"
HASH_IMMUTABLE: Final = f"sandbox.{GROUP}/hash-immutable-part"
"""Pod: hash of everything in its template that a running pod cannot change (all but images, cpu, memory,
metadata)."""
INPLACE_STATE: Final = f"{GROUP}/inplace-update-state"
"""Pod: JSON of the last change of the running pod: its revision, instant, and the containers it has to replace."""

OWNER_SCALE_DOWN: Final = "__manager_scale_down"
"""Value of OWNER while a SandboxSet deletes a member."""

UPGRADE_RESUME: Final = f"{GROUP}/upgrade-resume-trigger"
"""Sandbox: the SandboxUpdateOps that resumed it for an upgrade, and pauses it again afterwards."""

FINALIZER_SANDBOX: Final = f"{GROUP}/sandbox"
FINALIZER_UPDATE_OPS: Final = f"{GROUP}/sandboxupdateops-protection"

E2B_PREFIX: Final = f"e2b.{GROUP}/"
TAG_PREFIX: Final = f"tag.{E2B_PREFIX}"
"""SandboxSet label ``<prefix><tag>``: the tag names this template; the value is when, in unix seconds."""
SHOULD_INIT_ENVD: Final = f"{E2B_PREFIX}should-init-envd"
E2B_METADATA: Final = f"{E2B_PREFIX}metadata"
"""Sandbox: JSON object of the user's E2B metadata, byte for byte; the truth for the E2B API."""
E2B_LIFECYCLE: Final = f"{E2B_PREFIX}lifecycle"
"""Sandbox: JSON of create-time options that outlive a pause: see ``manager/lifecycle.py``."""

# Ours -------------------------------------------------------------------------------------------------------------
DESIRED_STATE: Final = "appliance.agents.kruise.io/desired-state"
"""Pod annotation written by the Sandbox controller: ``frozen`` or ``running``; obeyed by nodes with a freezer.
``halted`` (processes end, files stay until ``running``) is obeyed by nodes with NODE_KEEPS_FILES."""
CPU_REQUESTS: Final = "appliance.agents.kruise.io/cpu-requests"
"""Pod annotation of a frozen pod: JSON, container → cpu request that comes back when it is thawed."""
CONDITION_FROZEN: Final = "appliance.agents.kruise.io/Frozen"
"""Pod condition written by the node: True once every process is frozen, False once thawed."""
CONDITION_HALTED: Final = "appliance.agents.kruise.io/Halted"
"""Pod condition written by the node: True once every process has ended and the files are kept, False once it boots."""
CONDITION_MANIFEST: Final = "appliance.agents.kruise.io/ManifestHonoured"
"""Pod condition: ``False``, naming fields of the manifest that have no effect on this node; absent when all have."""
CONDITION_NETWORK: Final = "appliance.agents.kruise.io/NetworkApplied"
"""Pod condition written by the node: status True, ``reason`` is ``egress.reason`` of the policy in force."""
EGRESS: Final = "appliance.agents.kruise.io/egress"
"""Sandbox and Pod annotation: JSON of what may be reached, see ``egress.py``; absent means everything."""
NODE_FREEZER: Final = "appliance.agents.kruise.io/freezer"
"""Node label: ``cgroup`` or ``signals`` (how) when the node obeys DESIRED_STATE; absent elsewhere (the runtime's
/freeze is used)."""
NODE_NETWORK_POLICY: Final = "appliance.agents.kruise.io/network-policy"
"""Node label ``true``: the node enforces what EGRESS and ALLOW_INTERNET ask for, and confirms it on the pod."""
NODE_KEEPS_FILES: Final = "appliance.agents.kruise.io/keeps-files"
"""Node label: ``true`` when the node can end a pod's processes and boot it again on its files."""
NODE_SANDBOX_DISK: Final = "appliance.agents.kruise.io/sandbox-disk"
"""Node label: size (``10240Mi``) of the writable layer of a pod without ephemeral-storage limit; absent: no limit."""
PAUSE_CONTENTS: Final = "appliance.agents.kruise.io/pause-contents"
"""Sandbox annotation: ``filesystem`` when the next (or present) pause keeps files only, whatever the spec says."""
REQUEST: Final = "appliance.agents.kruise.io/request"
"""Sandbox label: start of the digest of the idempotency key it was made with, to be found by every manager at once."""
SECURE: Final = "appliance.agents.kruise.io/secure"
"""Sandbox annotation: ``"false"`` when the delivery has no runtime access token; absent means it has one."""

CHOSEN_IMAGE: Final = "appliance.agents.kruise.io/chosen-image"
"""Pod template annotation: names the container whose image a claim chose. The box's node, which takes its own root for
images that nobody loaded, then insists on that one."""
CLAIM_REPORT: Final = "appliance.agents.kruise.io/claim-report"
"""ConfigMap in SYSTEM_NAMESPACE, value the role: where the time of its last claims went, see ``claimreport.py``."""

SYSTEM_NAMESPACE: Final = "sandbox-system"
WEBHOOK_SERVICE: Final = "sandbox-controller-webhook"
"""Service in SYSTEM_NAMESPACE by which the API server asks the controllers before a pod is deleted or evicted."""
WEBHOOK_CONFIGURATION: Final = "appliance-pods"
"""Name of the ValidatingWebhookConfiguration."""
SEED_SECRET: Final = "appliance-seed"
"""Secret in SYSTEM_NAMESPACE, key ``seed``: 32 random bytes from which runtime access tokens are derived."""
KEY_STORE_SECRET: Final = "e2b-key-store"
"""Secret in SYSTEM_NAMESPACE: one entry per API key id, JSON with the SHA-256 of the key, never the key."""

# The runtime ------------------------------------------------------------------------------------------------------
WORKSPACE_ENV: Final = "AGENT_RUNTIME_WORKSPACE"
"""Environment variable of a container that wants the runtime; value: mount path of the shared volume."""
AGENT_RUNTIME: Final = "agent-runtime"
"""Name in ``spec.runtimes`` that asks for the runtime; the only one there is."""
RUNTIME_ENTRY: Final = "appliance-runtime"
"""Base name of the program in the workspace that the postStart hook runs: ``[WORKSPACE/appliance-runtime, start]``."""
IMAGE_PROGRAM: Final = "/opt/appliance/appliance"
"""The program in the image of ``appliance image build``; ``inject`` places the runtime in the workspace."""
PORT_ENVD: Final = 49983
PORT_INTERPRETER: Final = 49999
PORT_TUNNEL: Final = 49982
ENVD_VERSION: Final = "0.6.13"
