"""Ways into a cluster: tokens, files that rotate, exec plugins that work, fail and hang, and clear errors."""

import stat
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from appliance.api.kinds import SANDBOX
from appliance.config import KubeSettings
from appliance.kube import credentials, errors
from appliance.kube.cluster import Cluster
from appliance.kube.credentials import Access, Credentials

OBJECT = {"metadata": {"name": "a"}}


def plugin(path: Path, body: str) -> dict[str, Any]:
    """A user section with an exec plugin that runs ``body`` in Python."""
    path.write_text(f"#!{sys.executable}\nimport json, os, sys, time\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(path)}}


def credential(token: str, expiry: str = "") -> str:
    status = {"token": token, **({"expirationTimestamp": expiry} if expiry else {})}
    return (
        "print(json.dumps({'apiVersion': 'client.authentication.k8s.io/v1', 'kind': 'ExecCredential', "
        f"'status': {status!r}}}))"
    )


async def test_a_missing_kubeconfig_is_named(tmp_path: Path) -> None:
    """The error says which file was looked for."""
    with pytest.raises(errors.ConfigError, match="nowhere: no such file"):
        await Cluster.connect(KubeSettings(kubeconfig=tmp_path / "nowhere"))


@pytest.mark.parametrize(
    "text", ["", "]", "5", "clusters: 5", "current-context: x\nclusters: []\ncontexts: []\nusers: []"]
)
async def test_an_unusable_kubeconfig_is_named(tmp_path: Path, text: str) -> None:
    """Whatever the package makes of a broken file, the caller gets a ConfigError with the path."""
    path = tmp_path / "broken"
    path.write_text(text)
    with pytest.raises(errors.ConfigError, match="broken"):
        await Cluster.connect(KubeSettings(kubeconfig=path))


async def test_outside_a_pod_the_missing_kubeconfig_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a kubeconfig and without a service account the error mentions both."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(errors.ConfigError, match=r"no kubeconfig.*service account"):
        await Cluster.connect(KubeSettings())


async def test_a_server_that_is_no_url_is_refused(kubeconfig: Any) -> None:
    """cluster.server must be an http or https URL."""
    with pytest.raises(errors.ConfigError, match=r"cluster\.server"):
        await Cluster.connect(KubeSettings(kubeconfig=kubeconfig("127.0.0.1:1", {"token": "t"})))


@pytest.mark.parametrize("field", ["as", "as-groups"])
async def test_an_identity_to_act_as_is_refused(kubeconfig: Any, field: str) -> None:
    """Impersonation is not silently dropped, which would act with more rights than the file says."""
    path = kubeconfig("http://127.0.0.1:1", {"token": "t", field: "somebody"})
    with pytest.raises(errors.ConfigError, match=f"{field}: impersonation is not supported"):
        await Cluster.connect(KubeSettings(kubeconfig=path))


async def test_exec_plugins_give_tokens(script: Any, kubeconfig: Any, tmp_path: Path) -> None:
    """The plugin runs once and its token is used for every request."""
    count = tmp_path / "count"
    body = f"open({str(count)!r}, 'a').write('x')\n" + credential("from-plugin")
    path = kubeconfig(script.url, plugin(tmp_path / "plugin", body))
    script.then(script.json(OBJECT))
    async with await Cluster.connect(KubeSettings(kubeconfig=path)) as cluster:
        for _ in range(3):
            await cluster.get(SANDBOX, "d", "a")
    assert {seen[4]["Authorization"] for seen in script.seen} == {"Bearer from-plugin"}
    assert count.read_text() == "x"


@pytest.mark.parametrize("body", ["sys.exit(3)", "print('junk')", "print('{}')"])
async def test_a_failing_plugin_is_an_error(kubeconfig: Any, tmp_path: Path, body: str) -> None:
    """Exit codes, junk and empty answers of a plugin fail the connection and name the plugin."""
    path = kubeconfig("http://127.0.0.1:1", plugin(tmp_path / "plugin", body))
    with pytest.raises(errors.ConfigError, match="plugin"):
        await Cluster.connect(KubeSettings(kubeconfig=path))


async def test_refused_tokens_are_renewed_once(script: Any, tmp_path: Path, kubeconfig: Any) -> None:
    """A 401 loads the credentials again and repeats the request with the new token."""
    path = kubeconfig(script.url, {"token": "old"})
    script.then(script.status(401, "Unauthorized"), script.json(OBJECT))
    async with await Cluster.connect(KubeSettings(kubeconfig=path)) as cluster:
        cluster._transport._credentials._loaded_at = time.monotonic() - 60
        kubeconfig(script.url, {"token": "new"})
        await cluster.get(SANDBOX, "d", "a")
    assert [seen[4]["Authorization"] for seen in script.seen] == ["Bearer old", "Bearer new"]


async def test_a_token_that_stays_wrong_is_unauthorized(script: Any, cluster: Cluster) -> None:
    """Without anything new to try a 401 is the answer, and plugins are not started per request."""
    script.then(script.status(401, "Unauthorized"))
    for _ in range(3):
        with pytest.raises(errors.Unauthorized):
            await cluster.get(SANDBOX, "d", "a")
    assert len(script.seen) == 3


async def test_token_files_lose_their_newline(script: Any, tmp_path: Path, kubeconfig: Any) -> None:
    """A newline at the end of a token file does not end up in the header; the file is read again by and by."""
    token = tmp_path / "token"
    token.write_text("from-file\n")
    path = kubeconfig(script.url, {"tokenFile": str(token)})
    script.then(script.json(OBJECT))
    async with await Cluster.connect(KubeSettings(kubeconfig=path)) as cluster:
        await cluster.get(SANDBOX, "d", "a")
        access = await cluster._transport._credentials.current()
    assert script.seen[0][4]["Authorization"] == "Bearer from-file"
    assert access.renew_at is not None


class Loads:
    """A loader that answers from a list."""

    def __init__(self, *answers: Access | Exception) -> None:
        self.answers = list(answers)
        self.calls = 0

    async def __call__(self) -> Access:
        self.calls += 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def access(token: str, renew_at: float | None = None) -> Access:
    return Access(server="http://x", authorization=token, tls=None, renew_at=renew_at)


async def test_credentials_about_to_end_are_renewed_before_use() -> None:
    """Past renew_at the next use loads again; without it never."""
    loads = Loads(access("1", renew_at=0.0), access("2"))
    subject = Credentials(loads, timeout=1)
    assert (await subject.current()).authorization == "1"
    assert (await subject.current()).authorization == "2"
    assert (await subject.current()).authorization == "2"
    assert loads.calls == 2


async def test_a_failed_renewal_keeps_the_old_credential() -> None:
    """While the old one may still work, a plugin that fails is no reason to stop."""
    loads = Loads(access("1", renew_at=0.0), errors.ConfigError("plugin"))
    subject = Credentials(loads, timeout=1)
    await subject.current()
    assert (await subject.current()).authorization == "1"
    assert (await subject.current()).authorization == "1"
    assert loads.calls == 2


async def test_a_hanging_plugin_meets_its_deadline() -> None:
    """A loader that never answers is a ConfigError after the time-out."""
    import asyncio

    async def hang() -> Access:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(errors.ConfigError, match="not ready after"):
        await Credentials(hang, timeout=0.01).current()


def test_the_kubernetes_package_is_imported_only_to_connect() -> None:
    """Importing cluster access costs neither the package's memory nor its time."""
    import subprocess

    code = "import sys, appliance.kube.cluster, appliance.kube.informer; print('kubernetes' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.strip() == "False"
    assert credentials.__doc__
