"""Two authorities, the components' certificates and kubeconfigs, made in milliseconds (EC keys)."""

from __future__ import annotations

import base64
import ipaddress
import json
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from realnode.layout import API_PORT, NODE, NODE_IP, SERVICE_IP, Layout

_DAYS = 30
_SERVER, _CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
KUBECONFIGS = {"admin": "admin", "kcm": "kcm", "scheduler": "scheduler", "kubelet": "kubelet", "proxy": "proxy"}


class Authority:
    """One certificate authority that signs into a directory."""

    def __init__(self, layout: Layout, name: str) -> None:
        self._pki = layout.pki
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = {"digital_signature": True, "key_cert_sign": True, "crl_sign": True}
        built = _builder(self._name, self._name, self._key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.certificate = built.add_extension(_usage(**usage), critical=True).sign(self._key, hashes.SHA256())
        self._write(name, self._key, self.certificate)

    def leaf(
        self, name: str, subject: str, purpose: x509.ObjectIdentifier, *, groups: str = "", names: str = ""
    ) -> None:
        """A certificate ``<name>.crt`` with its key; ``names`` are DNS names and addresses, separated by spaces."""
        key = ec.generate_private_key(ec.SECP256R1())
        parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, groups)] if groups else []
        whole = x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, subject)])
        built = _builder(whole, self._name, key.public_key())
        built = built.add_extension(_usage(digital_signature=True), critical=True)
        built = built.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        if names:
            built = built.add_extension(
                x509.SubjectAlternativeName([_general(one) for one in names.split()]), critical=False
            )
        self._write(name, key, built.sign(self._key, hashes.SHA256()))

    def _write(self, name: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        (self._pki / f"{name}.key").write_bytes(_pem(key))
        (self._pki / f"{name}.key").chmod(0o600)
        (self._pki / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def make(layout: Layout) -> None:
    """Everything the components need."""
    own, front = Authority(layout, "ca"), Authority(layout, "front-ca")
    in_cluster = "kubernetes kubernetes.default kubernetes.default.svc"
    addresses = f"127.0.0.1 {NODE_IP} {SERVICE_IP} localhost {NODE} {in_cluster}"
    own.leaf("apiserver", "kube-apiserver", _SERVER, names=addresses)
    own.leaf("kubelet-server", NODE, _SERVER, names=f"{NODE_IP} {NODE}")
    own.leaf("apiserver-kubelet", "apiserver-kubelet", _CLIENT, groups="system:masters")
    own.leaf("admin", "admin", _CLIENT, groups="system:masters")
    own.leaf("kcm", "system:kube-controller-manager", _CLIENT)
    own.leaf("scheduler", "system:kube-scheduler", _CLIENT)
    own.leaf("kubelet", f"system:node:{NODE}", _CLIENT, groups="system:nodes")
    own.leaf("proxy", "system:kube-proxy", _CLIENT)
    front.leaf("front", "front-proxy-client", _CLIENT)
    accounts = ec.generate_private_key(ec.SECP256R1())
    (layout.pki / "accounts.key").write_bytes(_pem(accounts))
    public = accounts.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (layout.pki / "accounts.pub").write_bytes(public)
    for user in KUBECONFIGS:
        (layout.pki / f"{user}.kubeconfig").write_text(kubeconfig(layout, user, f"https://127.0.0.1:{API_PORT}"))


def kubeconfig(layout: Layout, user: str, server: str) -> str:
    """A self-contained kubeconfig (JSON is YAML)."""
    data = {
        name: base64.b64encode((layout.pki / name).read_bytes()).decode()
        for name in ("ca.crt", f"{user}.crt", f"{user}.key")
    }
    credentials = {"client-certificate-data": data[f"{user}.crt"], "client-key-data": data[f"{user}.key"]}
    return json.dumps({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "node", "cluster": {"server": server, "certificate-authority-data": data["ca.crt"]}}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": "node", "context": {"cluster": "node", "user": user}}],
        "current-context": "node",
    })  # fmt: skip


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=_DAYS))
    )


def _usage(**wanted: bool) -> x509.KeyUsage:
    every = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign crl_sign "
        "encipher_only decipher_only"
    )
    return x509.KeyUsage(**{name: wanted.get(name, False) for name in every.split()})


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
