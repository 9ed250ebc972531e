"""``appliance install``: the manifests for a Kubernetes cluster, printed, compared or applied; ``uninstall``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from appliance.commands.targets import cluster_call, cluster_flag, named_cluster

DIFFERENT = 3
"""Exit code of ``--diff`` when something would change."""

FLAGS: dict[str, tuple[str, str]] = {
    "image": ("--image", "image"),
    "domain": ("--domain", "domain"),
    "api_key_secret": ("--api-key-secret", "apiKeySecret"),
    "tls_secret": ("--tls-secret", "tls.secretName"),
    "managers": ("--managers", "managers.replicas"),
    "controllers": ("--controllers", "controllers.replicas"),
    "sandbox_namespace": ("--sandbox-namespace", "sandboxNamespaces"),
    "ingress": ("--ingress", "ingress.enabled"),
    "ingress_tls_secret": ("--ingress-tls-secret", "ingress.tlsSecretName"),
}
"""Option → its flag, and the value of the chart that it sets."""


def register(commands: Any) -> None:
    """Add both commands."""
    install = commands.add_parser(
        "install", help="the program on a Kubernetes cluster: prints the manifests, --apply applies them"
    )
    values_flags(install)
    install.add_argument("--apply", action="store_true", help="apply them, in order, and wait for the definitions")
    install.add_argument("--diff", action="store_true", help="show what applying would change; exit code 3 if it would")
    install.add_argument("--force-conflicts", action="store_true", help="with --apply: take over fields of others")
    install.add_argument(
        "--wait", type=float, default=0.0, metavar="SECONDS", help="with --apply: until pods are ready"
    )
    install.set_defaults(run=_install)
    uninstall = commands.add_parser(
        "uninstall", help="take the program off a cluster; sandboxes, definitions and keys stay"
    )
    uninstall.add_argument("--yes", action="store_true", help="do not ask")
    uninstall.add_argument(
        "--delete-sandboxes", action="store_true", help="end all sandboxes, delete the definitions and the namespace"
    )
    uninstall.set_defaults(run=_uninstall)
    for sub in (install, uninstall):
        cluster_flag(sub)


def values_flags(into: argparse.ArgumentParser) -> None:
    """What an installation can be told."""
    into.add_argument(
        "-f",
        "--values",
        action="append",
        type=Path,
        metavar="FILE",
        help="a values file, as the Helm chart takes it; repeat",
    )
    into.add_argument(
        "--image", metavar="NAME:TAG", help="image as nodes have or pull it (that of `appliance image build`)"
    )
    into.add_argument("--domain", default=argparse.SUPPRESS, metavar="NAME", help="E2B domain given to clients")
    into.add_argument("--api-key-file", type=Path, metavar="FILE", help="the first API key, for a Secret that is made")
    into.add_argument("--api-key-secret", metavar="NAME", help="the Secret whose api-key it is (appliance-api-key)")
    into.add_argument(
        "--tls-secret", metavar="NAME", help="Secret of type kubernetes.io/tls for the managers (plain HTTP)"
    )
    into.add_argument("--managers", type=int, metavar="N", help="managers (2)")
    into.add_argument("--controllers", type=int, metavar="N", help="controllers, one leads (2)")
    into.add_argument("--sandbox-namespace", action="append", metavar="NAME", help="where pools live; repeat (default)")
    into.add_argument("--ingress", action="store_const", const=True, help="an Ingress for the domain and *.DOMAIN")
    into.add_argument("--ingress-tls-secret", metavar="NAME", help="Secret with the certificate of the Ingress")


def values_of(options: argparse.Namespace) -> dict[str, Any]:
    """The checked values: defaults, then ``--values`` files, then flags. Raises ``ValueError`` naming what is wrong."""
    import yaml

    from appliance.install.values import merged, parse

    given: dict[str, Any] = {}
    for path in options.values or []:
        try:
            read = yaml.safe_load(path.read_text())
        except yaml.YAMLError as error:
            raise ValueError(f"--values: {path}: not valid YAML: {error}") from None
        if not isinstance(read, dict | None):
            raise ValueError(f"--values: {path}: expected a mapping, got {type(read).__name__}")
        given = merged(given, read or {})
    names = {}
    for option, (flag, path_of) in FLAGS.items():
        if (value := getattr(options, option, None)) is not None:
            given = merged(given, _nested(path_of, value))
            names[path_of] = flag
    if options.api_key_file is not None:
        given = merged(given, {"apiKey": options.api_key_file.read_text().strip()})
        names["apiKey"] = "--api-key-file"
    return parse({**given, "createNamespace": True}, names)


def _nested(path: str, value: Any) -> dict[str, Any]:
    for part in reversed(path.split(".")):
        value = {part: value}
    return dict(value)


def _install(options: argparse.Namespace) -> int:
    from appliance.install.command import run

    for flag, given in (("--wait", options.wait), ("--force-conflicts", options.force_conflicts)):
        if given and not options.apply:
            raise ValueError(f"{flag}: goes with --apply only; without it nothing is applied")
    if options.apply and options.diff:
        raise ValueError("--apply and --diff exclude each other")
    values = values_of(options)
    if options.diff:
        return _diff(options, values)
    if not options.apply:
        return run(values, print)
    from appliance.install.apply import How, apply

    how = How(force=options.force_conflicts, wait=options.wait)
    return cluster_call(apply(named_cluster(options), values, how, print))


def _diff(options: argparse.Namespace, values: dict[str, Any]) -> int:
    from appliance.install.diff import diff

    changed: list[int] = []

    async def compare() -> None:
        changed.append(await diff(named_cluster(options), values, print))

    return cluster_call(compare()) or (DIFFERENT if changed[0] else 0)


def _uninstall(options: argparse.Namespace) -> int:
    return cluster_call(_take_off(options))


def _take_off(options: argparse.Namespace) -> Coroutine[Any, Any, None]:
    from appliance.install.uninstall import carry_out, plan
    from appliance.kube.cluster import Cluster

    async def take_off() -> None:
        async with await Cluster.connect(named_cluster(options)) as cluster:
            chosen = await plan(cluster, options.delete_sandboxes)
            if not chosen.delete:
                print("nothing of this program is installed here")
                return
            print("\n".join(chosen.lines(options.delete_sandboxes)))
            if not options.yes and not _agreed():
                raise RuntimeError("nothing was deleted; --yes answers the question")
            await carry_out(cluster, chosen, options.delete_sandboxes, print)

    return take_off()


def _agreed() -> bool:
    if not sys.stdin.isatty():
        return False
    return input("delete these? [y/N] ").strip().lower() in ("y", "yes")
