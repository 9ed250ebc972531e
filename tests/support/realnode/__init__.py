"""A real single-node Kubernetes cluster for tests and for people: etcd to kubelet, in namespaces of its own.

``cluster.RealNode`` brings it up and takes it down, ``python -m realnode`` does the same for ``packaging/cluster.sh``,
``roles`` installs the product in it. Pid 1 of the node (``init``) supervises the components; when it dies the kernel
ends everything else. Facts behind the settings: cgroup v1 hybrid, root without CAP_SYS_RESOURCE, no Docker engine.
"""
