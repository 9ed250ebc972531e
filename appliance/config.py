"""Settings of every role: one frozen dataclass each, every field with its unit, default and environment variable.

A role never reads the environment elsewhere. Command-line flags override variables, which override defaults
(``appliance.cli`` applies both).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, kw_only=True)
class KubeSettings:
    """How a role reaches the cluster."""

    kubeconfig: Path | None = None
    """Path of a kubeconfig (``KUBECONFIG``); None: in-cluster service account."""
    user_agent: str = "appliance"
    page_size: int = 500
    """Objects per list page."""
    watch_timeout: float = 300.0
    """Seconds after which the server is asked to end a watch."""
    watch_inactivity: float = 150.0
    """Seconds without a byte (servers send a bookmark about every minute) after which a watch counts as dead."""
    request_timeout: float = 30.0
    """Seconds for one request that is not a watch."""
    backoff_initial: float = 0.1
    """Seconds before the first retry of a broken watch; doubles, with jitter, to ``backoff_max``."""
    backoff_max: float = 10.0


@dataclass(frozen=True, kw_only=True)
class ClaimSettings:
    """Picking, delivering and personalising sandboxes."""

    candidates: int = 100
    """Available sandboxes looked at in one pass before giving up on that pass."""
    writes_in_flight: int = 64
    """Claims of one process in the pick-and-write stage at once; the others wait in line (below ``candidates``)."""
    max_create_in_flight: int = 50
    """Cold creations in flight per process; further claims wait in line."""
    create_wait: float = 20.0
    """Seconds a claim waits in that line before it answers 429."""
    max_create_waiting: int = 1000
    """Claims in that line; one more answers 429 at once."""
    ready_timeout: float = 60.0
    """Seconds to wait for a cold sandbox to become ready."""
    init_timeout: float = 10.0
    """Seconds for the runtime's /init to answer."""
    cleanup_timeout: float = 30.0
    """Seconds for removing what a failed or abandoned claim left."""


@dataclass(frozen=True, kw_only=True)
class ControllerSettings:
    """--role=controller."""

    kube: KubeSettings = field(default_factory=KubeSettings)
    claims: ClaimSettings = field(default_factory=ClaimSettings)
    leader_election: bool = True
    """Hold the Lease before reconciling (off under --role=all)."""
    namespace: str | None = None
    """Restrict to one namespace; None: all."""
    batch_initial: int = 16
    """First slow-start batch of creations; doubles while batches succeed."""
    batch_max: int = 64
    """Largest batch of creations (or deletions) a pool makes in one step."""
    workers: int = 64
    """Reconciles in flight per kind."""
    runtime_image: str | None = None
    """Image that replaces the vendor's agent-runtime image in pods; None: keep the manifest's.

    (``APPLIANCE_RUNTIME_IMAGE``)"""
    metrics_listen: str = "127.0.0.1:0"
    webhook_listen: str | None = None
    """HOST:PORT of the admission webhook, TLS; None: off, as on the box, whose API server has the rule itself."""
    webhook_renew: float = 60 * 86400.0
    """Seconds after which the webhook's certificate is made anew; its authority after fifteen times that. At most 60
    days: a certificate counts for 90."""
    controller_user: str = "system:serviceaccount:sandbox-system:sandbox-controller-manager"
    """Who may end pods of sandboxes: this program, as the API server knows it (``SANDBOX_CONTROLLER_USERNAME``)."""


@dataclass(frozen=True, kw_only=True)
class GatewaySettings:
    """The data plane inside --role=manager."""

    listen: str = "127.0.0.1:8080"
    """HOST:PORT of the public socket (``APPLIANCE_LISTEN``)."""
    tls_cert: Path | None = None
    """Certificate chain, PEM; with ``tls_key`` it turns TLS on."""
    tls_key: Path | None = None
    tls_listen: str | None = None
    """HOST:PORT of a second socket that speaks TLS while ``listen`` stays plain; None: TLS, if on, is on ``listen``."""
    max_head: int = 64 * KIB
    """Bytes of request line and headers; larger answers 431."""
    max_control_body: int = 16 * MIB
    """Bytes of a control-API body; larger answers 413. Sandbox bodies are not limited."""
    head_timeout: float = 30.0
    """Seconds for a complete request head."""
    idle_timeout: float = 600.0
    """Seconds without a byte in either direction before a plain request pair is closed."""
    keepalive_timeout: float = 75.0
    """Seconds an idle client connection is kept between requests."""
    connect_timeout: float = 5.0
    """Seconds for a dial to a sandbox."""
    connect_attempts: int = 5
    """Dials before "port is not open"."""
    buffer_high: int = 256 * KIB
    """Bytes buffered per direction before reading is paused."""
    max_connections: int = 10_000
    drain_timeout: float = 10.0
    """Seconds open streams get at shutdown."""
    leave_time: float = 0.0
    """Seconds at shutdown, before that, in which everything is served as before and every answer says ``Connection:
    close``: for balancers that still send connections, and for clients that keep theirs (``--leave``)."""
    connect_backoff: float = 0.025
    """Seconds before the second dial; doubles for each further one."""
    wake_timeout: float = 60.0
    """Seconds a request waits for a paused sandbox to be resumed."""
    half_close_grace: float = 2.0
    """Seconds without a byte after which a client of the control API that closed its sending side counts as gone."""
    linger_timeout: float = 5.0
    """Seconds that the rest of a refused upload is read and thrown away, so that its sender sees the answer."""
    upstream_idle_timeout: float = 2.0
    """Seconds an idle connection to a sandbox is kept; shorter than any common server keeps it."""
    upstream_idle_per_port: int = 128
    """Idle connections kept per sandbox port."""
    upstream_idle_total: int = 1024
    """Idle connections kept in all."""


@dataclass(frozen=True, kw_only=True)
class ManagerSettings:
    """--role=manager."""

    kube: KubeSettings = field(default_factory=KubeSettings)
    claims: ClaimSettings = field(default_factory=ClaimSettings)
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    control_socket: Path = Path("/tmp/appliance-manager.sock")
    """Unix socket of the Quart application, mode 0600."""
    domain: str | None = None
    """E2B domain returned to clients (``APPLIANCE_DOMAIN``); None: null, clients keep their own."""
    initial_key_file: Path | None = None
    """File holding the first API key, made an admin key of team ``default`` at start."""
    namespace: str | None = None
    max_timeout: int = 30 * 24 * 3600
    """Seconds; larger sandbox timeouts are refused with 400."""
    min_resume_timeout: int = 300


@dataclass(frozen=True, kw_only=True)
class ApiServerSettings:
    """--role=apiserver."""

    data_dir: Path = Path("/var/lib/appliance")
    listen: str = "127.0.0.1:16443"
    """HOST:PORT, loopback only."""
    tls_cert: Path | None = None
    """Certificate chain, PEM; with ``tls_key`` it turns TLS on (kubectl sends no token over plain HTTP)."""
    tls_key: Path | None = None
    node_name: str = "box"
    """Pods created without a node are bound to it at admission."""
    watch_history: int = 5_000
    """Events kept in memory per resource for watches that resume; older ones get 410."""
    max_body: int = 3 * MIB
    """Bytes of one object, as in Kubernetes."""
    bookmark_interval: float = 30.0


@dataclass(frozen=True, kw_only=True)
class NodeSettings:
    """--role=node."""

    data_dir: Path = Path("/var/lib/appliance")
    kubeconfig: Path = Path("/var/lib/appliance/run/node.kubeconfig")
    node_name: str = "box"
    isolation: str = "namespaces"
    """``namespaces`` or ``process`` (isolates nothing)."""
    pod_cidr: str = "10.213.0.0/16"
    """Addresses of the pod bridge; in process mode pods get 127.213.0.0/16 loopback addresses."""
    bridge: str = "appliance0"
    resolv_conf: Path = Path("/etc/resolv.conf")
    """File with the name servers of the sandboxes, those of the box by default."""
    uid_base: int = 0x40000000
    """First host uid of the sandboxes' ranges; sandbox number N owns 65,536 ids from base + N * 65,536."""
    disk_default: int = 10 * 1024 * MIB
    """Bytes of writable layer when the pod sets no ephemeral-storage limit."""
    pids_default: int = 1024
    """Processes per sandbox."""
    start_concurrency: int = 8
    """Sandboxes being started at once."""


@dataclass(frozen=True, kw_only=True)
class BoxSettings:
    """--role=all."""

    data_dir: Path = Path("/var/lib/appliance")
    """State, sockets and logs (``APPLIANCE_DATA_DIR``)."""
    apiserver_listen: str = "127.0.0.1:16443"
    kubeconfig: Path | None = None
    """An existing cluster: then only controller and manager run here."""
    isolation: str = "namespaces"
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    domain: str | None = None
    """NAME or NAME:PORT under which sandboxes are PORT-ID.NAME; gets a certificate of the box's own authority."""
    resolv_conf: Path = Path("/etc/resolv.conf")
    """File with the name servers of the sandboxes."""
    dns_listen: str | None = None
    """HOST:PORT (UDP) of a resolver that answers ``domain`` and everything below it; None: no resolver."""
    stop_timeout: float = 20.0
    """Seconds a child gets between SIGTERM and SIGKILL."""
    restart_backoff_max: float = 5.0
