"""The flight deck under the roles of a real kube-apiserver: who may only read, who may write in one namespace."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from api_servers import ApiServer

from appliance.config import KubeSettings
from appliance.kube.cluster import Cluster
from tui.act.access import refusals
from tui.app import Deck
from tui.feed.live import LiveSource
from tui.screens.deck import DeckScreen
from tui.widgets.lines import Lines, Page

pytestmark = pytest.mark.realkube

RBAC = "/apis/rbac.authorization.k8s.io/v1"
READ = ["get", "list", "watch"]
SANDBOXES = "/apis/agents.kruise.io/v1alpha1/namespaces/{}/sandboxes"


class Roles:
    """Accounts of one namespace and what they may do."""

    def __init__(self, server: ApiServer, directory: Path) -> None:
        self.server = server
        self.namespace = f"deck-{secrets.token_hex(4)}"
        self._directory = directory
        self._post("/api/v1/namespaces", {"metadata": {"name": self.namespace}})

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        code, answer = self.server.request("POST", path, body)
        assert code == 201, answer
        return answer

    def account(self, name: str) -> Path:
        """A service account without rights; the kubeconfig of its token."""
        accounts = f"/api/v1/namespaces/{self.namespace}/serviceaccounts"
        self._post(accounts, {"metadata": {"name": name}})
        token = self._post(f"{accounts}/{name}/token", {"spec": {}})["status"]["token"]
        config: dict[str, Any] = json.loads(self.server.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": token}
        path = self._directory / f"{name}.kubeconfig"
        path.write_text(json.dumps(config))
        return path

    def allow(self, name: str, verbs: list[str], *, everywhere: bool) -> None:
        """The account may do that with our kinds, in its namespace or in all."""
        kind, base = ("ClusterRole", RBAC) if everywhere else ("Role", f"{RBAC}/namespaces/{self.namespace}")
        named = f"{self.namespace}-{name}-{secrets.token_hex(2)}"
        rule = {"apiGroups": ["agents.kruise.io"], "resources": ["*"], "verbs": verbs}
        self._post(f"{base}/{kind.lower()}s", {"metadata": {"name": named}, "rules": [rule]})
        whom = {"kind": "ServiceAccount", "name": name, "namespace": self.namespace}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": named}
        body = {"metadata": {"name": named}, "roleRef": role, "subjects": [whom]}
        self._post(f"{base}/{kind.lower()}bindings", body)

    def sandbox(self, name: str) -> None:
        """A Sandbox in the namespace."""
        spec = {"template": {"spec": {"containers": [{"name": "sandbox", "image": "python:3.11"}]}}}
        body = {"apiVersion": "agents.kruise.io/v1alpha1", "kind": "Sandbox", "metadata": {"name": name}, "spec": spec}
        self._post(SANDBOXES.format(self.namespace), body)


@pytest.fixture
def roles(real_apiserver: ApiServer, tmp_path: Path) -> Roles:
    """A namespace of its own on the session's kube-apiserver."""
    return Roles(real_apiserver, tmp_path)


async def refused(kubeconfig: Path, namespace: str | None, known: list[str]) -> dict[str, str]:
    """What the account may not do there."""
    async with await Cluster.connect(KubeSettings(kubeconfig=kubeconfig)) as cluster:
        return await refusals(cluster, namespace, known)


async def settled(condition: Callable[[], bool]) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.05)


async def test_who_writes_in_one_namespace_is_refused_in_the_others(roles: Roles) -> None:
    """Rights are asked for where one looks; with all namespaces in view it counts where anything is allowed."""
    account = roles.account("writer")
    roles.allow("writer", READ, everywhere=True)
    roles.allow("writer", ["patch", "delete"], everywhere=False)
    here = await refused(account, roles.namespace, [])
    assert not {"pause", "resume", "extend", "kill", "scale", "drop"} & set(here)
    assert here["claim"] == f"you may not create sandboxclaims in {roles.namespace}"
    assert here["shell"] == f"you may not create pods/exec in {roles.namespace}"
    elsewhere = await refused(account, "default", [])
    assert elsewhere["kill"] == "you may not delete sandboxes in default"
    everywhere = await refused(account, None, ["default", roles.namespace])
    assert "kill" not in everywhere
    assert everywhere["claim"] == "you may not create sandboxclaims in any namespace"


async def test_a_reader_sees_everything_and_is_told_why_he_may_not_act(roles: Roles) -> None:
    """A key of what is not allowed does nothing but say so; the help and the overview say it beforehand."""
    account = roles.account("reader")
    roles.allow("reader", READ, everywhere=True)
    roles.sandbox("only-one")
    deck = Deck(LiveSource(KubeSettings(kubeconfig=account), roles.namespace), watched=roles.namespace)
    async with deck.run_test(size=(140, 40)) as pilot:
        await settled(lambda: "kill" in deck.refused and len(deck.source.world.sandboxes) == 1)
        deck.screen.paint()  # type: ignore[attr-defined]
        assert "not allowed: " in deck.screen.query_one("#alerts-brief").rows[-1].alert.title  # type: ignore[attr-defined]
        await pilot.press("3")
        await settled(lambda: getattr(deck.screen, "name_of", "") == "sandboxes" and len(deck.screen.live.rows) == 1)  # type: ignore[attr-defined]
        await pilot.press("ctrl+d")
        await settled(lambda: isinstance(deck.screen, DeckScreen) and bool(deck.screen.flashed))
        assert isinstance(deck.screen, DeckScreen)
        assert deck.screen.flashed == f"Kill: not allowed (you may not delete sandboxes in {roles.namespace})"
        await pilot.press("question_mark")
        await settled(lambda: bool(deck.screen.query(Page)))
        assert f"not allowed: you may not delete sandboxes in {roles.namespace}" in deck.screen.query_one(Page).plain
    assert roles.server.request("GET", f"{SANDBOXES.format(roles.namespace)}/only-one")[0] == 200


async def test_forbidden_namespaces_are_said_and_the_own_one_works(roles: Roles) -> None:
    """Who may read one namespace is told so with all in view, and sees it with ``--namespace``."""
    account = roles.account("local")
    roles.allow("local", READ, everywhere=False)
    roles.sandbox("mine")
    for namespace, state in ((None, "forbidden"), (roles.namespace, "live")):
        source = LiveSource(KubeSettings(kubeconfig=account), namespace)
        deck = Deck(source, watched=namespace)
        async with deck.run_test(size=(140, 40)) as pilot:
            await settled(lambda: all(one.state != "connecting" for one in source.health()))  # noqa: B023
            states = {one.plural: one.state for one in source.health()}
            assert states["sandboxes"] == states["sandboxsets"] == state, states
            await pilot.press("3")
            if namespace is None:
                assert "You may not see sandboxes here" in deck.why_empty("sandboxes")
                assert "cannot list resource" in deck.why_empty("sandboxes")
                assert "partly forbidden" in deck.screen.query_one("#title", Lines).plain
            else:
                await settled(lambda: (roles.namespace, "mine") in source.world.sandboxes)  # noqa: B023
