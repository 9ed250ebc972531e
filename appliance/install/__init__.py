"""``appliance install``: the manifests that run this program on a Kubernetes cluster, rendered from code.

``rbac`` says what each role may do, ``workloads`` what runs, ``network`` who may talk to whom, ``command`` puts them in
order and writes YAML. Rendering is pure: the same options give the same bytes, for ``kubectl apply``, ``diff`` and
``delete``.
"""
