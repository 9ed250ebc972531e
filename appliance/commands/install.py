"""``appliance install``: the manifests for a Kubernetes cluster."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

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
    """Add the command."""
    install = commands.add_parser("install", help="print the manifests for a Kubernetes cluster, for kubectl")
    values_flags(install)
    install.set_defaults(run=_install)


def values_flags(into: argparse.ArgumentParser) -> None:
    """What an installation can be told."""
    into.add_argument("-f", "--values", action="append", type=Path, metavar="FILE", help="values, as of the Helm chart")
    into.add_argument("--image", metavar="NAME:TAG", help="as nodes have it (that of `appliance image build`)")
    into.add_argument("--domain", default=argparse.SUPPRESS, metavar="NAME", help="E2B domain given to clients")
    into.add_argument("--api-key-file", type=Path, metavar="FILE", help="the first API key, for a Secret that is made")
    into.add_argument("--api-key-secret", metavar="NAME", help="the Secret whose api-key it is (appliance-api-key)")
    into.add_argument("--tls-secret", metavar="NAME", help="of type kubernetes.io/tls; without it plain HTTP")
    into.add_argument("--managers", type=int, metavar="N", help="replicas (2)")
    into.add_argument("--controllers", type=int, metavar="N", help="replicas, one leads (2)")
    into.add_argument("--sandbox-namespace", action="append", metavar="NAME", help="of pools; repeat (default)")
    into.add_argument("--ingress", action="store_const", const=True, help="an Ingress for the domain and *.DOMAIN")
    into.add_argument("--ingress-tls-secret", metavar="NAME", help="certificate of the Ingress")


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

    return run(values_of(options), print)
