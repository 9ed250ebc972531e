"""``appliance install`` and the Helm chart: the manifests that run this program on Kubernetes, described once in code.

``rbac`` says what each role may do, ``workloads`` what runs, ``network`` who may talk to whom, ``ingress`` how clients
come in; ``command`` puts them in order. They are manifests with holes (``nodes``), filled from ``values`` here and
written as templates (``templates``, ``chart``) for Helm. Rendering is pure: the same values give the same bytes.
``apply``, ``diff`` and ``uninstall`` act on a cluster.
"""
