"""What each role may do on the real API server, and who may read what: one verb too many fails."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from e2b_code_interpreter import Sandbox
from realnode.roles import Cloud

from appliance.api import labels
from appliance.install import rbac
from appliance.install.rbac import CONTROLLER, MANAGER, Rule

pytestmark = [pytest.mark.realnode, pytest.mark.timeout(400)]
READ = "get list watch"
OURS = labels.GROUP
EVERYBODY = {
    ("authentication.k8s.io", "selfsubjectreviews", "create"),
    ("authorization.k8s.io", "selfsubjectaccessreviews", "create"),
    ("authorization.k8s.io", "selfsubjectrulesreviews", "create"),
}
"""What Kubernetes lets every account do."""
NEVER = {
    "create pods/exec", "get pods/exec", "create pods/attach", "create pods/portforward", "create pods/eviction",
    "list secrets", "watch secrets", "update secrets", "deletecollection secrets", "deletecollection pods",
    "create serviceaccounts/token", "impersonate users", "impersonate serviceaccounts", "create roles", "bind roles",
    "escalate clusterroles", "bind clusterroles", "patch clusterroles", "patch nodes", "create nodes/proxy",
    "create namespaces", "delete namespaces", "patch customresourcedefinitions", "create deployments",
}  # fmt: skip
"""What no role may ever do in a namespace of sandboxes, whatever its list says."""


def account(role: str) -> str:
    """The user name of a role's service account."""
    return f"system:serviceaccount:{labels.SYSTEM_NAMESPACE}:{role}"


def rights(cloud: Cloud, user: str, namespace: str) -> set[tuple[str, str, str]]:
    """(group, resource, verb) that the API server grants in a namespace; a rule with names counts as one for all."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    groups = [f"--as-group={group}" for group in ("system:serviceaccounts", "system:authenticated")]
    words = ("create", "--validate=false", "-f", "-", "-o", "json", f"--as={user}", *groups)
    said = cloud.kubectl(*words, stdin=json.dumps(review))
    status = json.loads(said)["status"]
    assert not status.get("incomplete"), status
    return {
        (group, resource, verb)
        for rule in status["resourceRules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def spelled(rules: Iterable[Rule]) -> set[tuple[str, str, str]]:
    """The same of what we render (a unit test holds that against the calls in the code)."""
    return {(group, resource, verb) for group, resource, verbs in rules for verb in verbs}


@pytest.mark.parametrize("role", [CONTROLLER, MANAGER])
def test_a_role_may_do_what_its_code_calls_and_nothing_else(cloud: Cloud, namespace: str, role: str) -> None:
    """In any namespace exactly its rules, in the system namespace its own beside them: no verb more, no verb less."""
    anywhere = spelled(rbac.CLUSTER[role]) | EVERYBODY
    for place, expected in (
        (namespace, anywhere),
        ("kube-system", anywhere),
        (labels.SYSTEM_NAMESPACE, anywhere | spelled(rbac.OWN[role])),
    ):
        granted = rights(cloud, account(role), place)
        assert sorted(granted - expected) == [], f"{role} may do more in {place}"
        assert sorted(expected - granted) == [], f"{role} may do less in {place}"


def may(cloud: Cloud, role: str, namespace: str, deed: str) -> bool:
    """Whether the API server says yes to ``verb resource/subresource``."""
    verb, _, whole = deed.partition(" ")
    resource, _, subresource = whole.partition("/")
    words = ("auth", "can-i", verb, resource, f"--subresource={subresource}", "-n", namespace, f"--as={account(role)}")
    said = cloud.kubectl(*words, check=False)
    assert said.strip().split()[:1] in (["yes"], ["no"]), f"{deed}: {said!r}"
    return said.startswith("yes")


@pytest.mark.parametrize("role", [CONTROLLER, MANAGER])
def test_what_no_role_may_ever_do(cloud: Cloud, namespace: str, role: str) -> None:
    """The API server itself refuses what would let a role become more, enter a sandbox, or read others' Secrets."""
    allowed = [deed for deed in sorted(NEVER) if may(cloud, role, namespace, deed)]
    assert allowed == []


def test_every_pod_of_ours_runs_as_its_own_account(cloud: Cloud) -> None:
    """Two accounts, each used by one role; sandboxes use the namespace's default and mount no token."""
    for role in (CONTROLLER, MANAGER):
        selector = f"app.kubernetes.io/component={role}"
        pods = cloud.get("pods", "-n", labels.SYSTEM_NAMESPACE, "-l", selector)["items"]
        assert {item["spec"]["serviceAccountName"] for item in pods} == {role}
    sandboxes = cloud.get("pods", "-n", "default", "-l", f"{labels.CREATED_BY}={labels.CREATED_BY_SANDBOX}")["items"]
    for item in sandboxes:
        mounted = [mount["mountPath"] for one in item["spec"]["containers"] for mount in one.get("volumeMounts", [])]
        assert item["spec"]["serviceAccountName"] == "default"
        assert "/var/run/secrets/kubernetes.io/serviceaccount" not in mounted


def test_who_reads_sandboxes_reads_no_secret(sdk: Cloud, namespace: str) -> None:
    """Token, key and environment of a delivery are in nothing that an account with ``view`` of everything but Secrets
    can read, and the Secret that holds the environment is closed to it.
    """
    secret = "environment-secret-5481"
    _reader(sdk, namespace)
    user = f"--as=system:serviceaccount:{namespace}:reader"
    with Sandbox.create(template="code-interpreter", timeout=600, envs={"PASSWORD": secret}) as sandbox:
        token: Any = sandbox._envd_access_token
        assert isinstance(token, str) and len(token) >= 32
        assert sandbox.commands.run("echo $PASSWORD").stdout == f"{secret}\n"
        readable = "sbx,sbs,sbc,sbt,pods,events,configmaps,services,deployments,replicasets,leases"
        seen = sdk.kubectl("get", readable, "-A", "-o", "json", user)
        assert sandbox.sandbox_id in seen
        for hidden in (token, secret, sdk.api_key):
            assert hidden not in seen
        refused = sdk.kubectl("auth", "can-i", "get", "secrets", "-n", "default", user, check=False)
        assert refused.strip() == "no"
        logs = sdk.kubectl("-n", labels.SYSTEM_NAMESPACE, "logs", "-l", "app.kubernetes.io/name=appliance", "--tail=-1")
        for hidden in (token, secret, sdk.api_key):
            assert hidden not in logs
    sdk.kubectl("delete", "clusterrole,clusterrolebinding", f"reader-{namespace}")


def _reader(cloud: Cloud, namespace: str) -> None:
    name = f"reader-{namespace}"
    groups = ["", OURS, "apps", "coordination.k8s.io"]
    resources = ["sandboxes", "sandboxsets", "sandboxclaims", "sandboxtemplates", "pods", "events", "configmaps",
                 "services", "deployments", "replicasets", "leases"]  # fmt: skip
    authorization = "rbac.authorization.k8s.io"
    cloud.apply(
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "reader", "namespace": namespace},
        },
        {
            "apiVersion": f"{authorization}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": name},
            "rules": [{"apiGroups": groups, "resources": resources, "verbs": READ.split()}],
        },
        {
            "apiVersion": f"{authorization}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": authorization, "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": namespace}],
        },
    )
