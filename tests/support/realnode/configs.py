"""Configuration of containerd, kubelet, kube-proxy and the CNI. Why an unusual line is there is said beside it."""

from __future__ import annotations

import json

from realnode.layout import NODE, NODE_IP, POD_CIDR, REGISTRY, Layout

PAUSE_IMAGE = "appliance.test/pause:1"


def write(layout: Layout) -> None:
    """All of them, below ``layout.config``."""
    hosts = layout.config / "registries" / "_default"
    hosts.mkdir(parents=True, exist_ok=True)
    # whatever registry an image names, the node's own mirror is asked, and nobody else: the cluster has no internet
    (hosts / "hosts.toml").write_text(
        f'server = "http://{REGISTRY}"\n[host."http://{REGISTRY}"]\ncapabilities = ["pull", "resolve"]\n'
    )
    (layout.config / "containerd.toml").write_text(_containerd(layout))
    (layout.config / "kubelet.yaml").write_text(json.dumps(_kubelet(layout)))
    (layout.config / "proxy.yaml").write_text(json.dumps(_proxy(layout)))
    (layout.config / "cni" / "10-bridge.conflist").write_text(json.dumps(_network(layout)))


def _containerd(layout: Layout) -> str:
    root, unused = layout.root, ("aufs", "btrfs", "devmapper", "zfs")
    plugins = [f'"io.containerd.snapshotter.v1.{name}"' for name in unused]
    plugins += ['"io.containerd.tracing.processor.v1.otlp"', '"io.containerd.internal.v1.tracing"']
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    # restrict_oom_score_adj: root here lacks CAP_SYS_RESOURCE, runc could not write a negative one
    return f"""version = 2
root = "{root}/containerd"
state = "{root}/containerd-state"
disabled_plugins = [{", ".join(plugins)}]
[grpc]
  address = "{layout.containerd_socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{root}/containerd-opt"
[{cri}]
  sandbox_image = "{PAUSE_IMAGE}"
  stream_server_address = "127.0.0.1"
  netns_mounts_under_state_dir = true
  disable_tcp_service = true
  disable_apparmor = true
  restrict_oom_score_adj = true
  [{cri}.registry]
    config_path = "{layout.config}/registries"
  [{cri}.cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{layout.config}/cni"
  [{cri}.containerd]
    default_runtime_name = "runc"
    [{cri}.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [{cri}.containerd.runtimes.runc.options]
        SystemdCgroup = false
"""


def _kubelet(layout: Layout) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": False,  # the default is true since 1.35
        "failSwapOn": False,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{layout.cgroup}",
        "address": NODE_IP,
        "healthzBindAddress": "127.0.0.1",
        "readOnlyPort": 0,
        "containerRuntimeEndpoint": f"unix://{layout.containerd_socket}",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{layout.pki}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{layout.pki}/kubelet-server.crt",
        "tlsPrivateKeyFile": f"{layout.pki}/kubelet-server.key",
        "resolvConf": "",
        "podLogsDir": f"{layout.root}/pod-logs",
        "volumePluginDir": f"{layout.root}/kubelet/plugins",
        "evictionHard": {},  # the machine's disk is others' as well
        "volumeStatsAggPeriod": "2s",  # how old its figure of a volume may be when it looks (every 10 s) whom to evict
        "enforceNodeAllocatable": ["pods"],
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "serializeImagePulls": False,
        "registryPullQPS": 0,
        "eventRecordQPS": 0,
        "nodeStatusUpdateFrequency": "4s",
        "nodeLeaseDurationSeconds": 12,  # renewed every three seconds, so that a dead kubelet is soon noticed
        "shutdownGracePeriod": "0s",
        "maxPods": 200,
    }


def _proxy(layout: Layout) -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "bindAddress": "127.0.0.1",
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "hostnameOverride": NODE,
        "mode": "nftables",
        "clusterCIDR": POD_CIDR,
        "clientConnection": {"kubeconfig": f"{layout.pki}/proxy.kubeconfig"},
        # these sysctls are the whole machine's
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "nodePortAddresses": [f"{NODE_IP}/32"],
    }


def _network(layout: Layout) -> dict[str, object]:
    addresses = {
        "type": "host-local",
        "dataDir": f"{layout.root}/addresses",
        "ranges": [[{"subnet": POD_CIDR}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": addresses,
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge, ports]}
