"""The part of a ``host`` sandbox's root that is not the box's: a fresh /etc, /home/user, /var, /opt/venv.

Built once per fingerprint below ``node/skeleton/`` with the numbers it has inside (0 root, 1000 user), shown to
every sandbox through its id map, and never written to again: changes go to each sandbox's own layer. From the box's
/etc only what programs need to run is copied (loader cache, certificates, alternatives, profile, apt), never
accounts or secrets.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path

from appliance.embedded.node.staging import HOME, VENV, Installation

USER_ID = 1000
PATH = f"{VENV}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_VERSION = 5
_COPIED = (
    "R", "alternatives", "apt", "bash.bashrc", "ca-certificates", "ca-certificates.conf", "debian_version", "fonts",
    "gai.conf", "host.conf", "issue", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "locale.alias",
    "login.defs", "lsb-release", "magic", "mime.types", "nsswitch.conf", "openssl", "os-release", "pam.conf", "pam.d",
    "perl", "pki", "profile", "profile.d", "protocols", "redhat-release", "security", "services", "shells", "skel",
    "ssl/certs", "ssl/openssl.cnf", "terminfo", "timezone", "vim", "yum.repos.d",
)  # fmt: skip
_EMPTY = (
    "boot", "dev", "home", "media", "mnt", "opt", "proc", "root", "run", "run/lock", "srv", "sys", "tmp", "usr", "var",
    "var/cache", "var/cache/apt/archives/partial", "var/lib", "var/lib/apt/lists/partial", "var/lib/dpkg", "var/local",
    "var/log/apt", "var/mail", "var/opt", "var/spool", "var/tmp", "etc",
    "etc/ssl/certs", "etc/sudoers.d", "opt/appliance",
)  # fmt: skip
_GROUPS = {
    "root": 0, "daemon": 1, "bin": 2, "sys": 3, "adm": 4, "tty": 5, "disk": 6, "mail": 8, "sudo": 27, "audio": 29,
    "www-data": 33, "shadow": 42, "utmp": 43, "video": 44, "staff": 50, "users": 100, "user": USER_ID, "nogroup": 65534,
}  # fmt: skip
_ACCOUNTS = (
    ("root", 0, 0, "/root", "/bin/bash"), ("daemon", 1, 1, "/usr/sbin", "/usr/sbin/nologin"),
    ("bin", 2, 2, "/bin", "/usr/sbin/nologin"), ("sys", 3, 3, "/dev", "/usr/sbin/nologin"),
    ("mail", 8, 8, "/var/mail", "/usr/sbin/nologin"), ("www-data", 33, 33, "/var/www", "/usr/sbin/nologin"),
    ("_apt", 42, 65534, "/nonexistent", "/usr/sbin/nologin"), ("user", USER_ID, USER_ID, "/home/user", "/bin/bash"),
    ("nobody", 65534, 65534, "/nonexistent", "/usr/sbin/nologin"),
)  # fmt: skip


def box_directories() -> tuple[str, ...]:
    """Top directories shown from the box: /usr, and /bin, /lib, /sbin where they are no links into it."""
    names = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
    return tuple(f"/{name}" for name in names if Path("/", name).is_dir() and not Path("/", name).is_symlink())


def ensure(directory: Path, installation: Installation) -> Path:
    """The skeleton for the box as it is now, built when it is not there. Raises ``OSError``."""
    target = directory / _fingerprint(installation)
    if target.exists():
        return target
    fresh = directory / f".{target.name}.{os.getpid()}"
    shutil.rmtree(fresh, ignore_errors=True)
    build(fresh, installation)
    fresh.rename(target)
    return target


def _fingerprint(installation: Installation) -> str:
    marks = [str(_VERSION), str(installation.python), str(installation.site)]
    for path in ("/etc/alternatives", "/etc/ld.so.cache", "/var/lib/dpkg/status", "/etc/ssl/certs", "/etc/apt"):
        with suppress(OSError):
            marks.append(f"{path}{os.stat(path).st_mtime_ns}")
    return hashlib.sha256("\n".join(marks).encode()).hexdigest()[:16]


def build(root: Path, installation: Installation) -> None:
    """Write the whole tree at ``root``."""
    for name in _EMPTY:
        (root / name).mkdir(parents=True, exist_ok=True)
    for name, mode in {"tmp": 0o1777, "var/tmp": 0o1777, "root": 0o700, "etc/sudoers.d": 0o750}.items():
        (root / name).chmod(mode)
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        if Path("/", name).is_symlink():
            (root / name).symlink_to(os.readlink(f"/{name}"))
        elif Path("/", name).is_dir():
            (root / name).mkdir()
    (root / "var/run").symlink_to("/run")
    (root / "var/lock").symlink_to("/run/lock")
    for name in (*_COPIED, *(path.name for path in Path("/etc").glob("java-*"))):
        _copy(Path("/etc", name), root / "etc" / name)
    if (root / "etc/ssl/certs/ca-certificates.crt").exists():
        # pip brings authorities of its own and would not trust those that the box's owner added.
        (root / "etc/pip.conf").write_text("[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n")
    _packages(root)
    _accounts(root)
    _home(root)
    _venv(root / VENV.lstrip("/"), installation)


def _copy(source: Path, target: Path) -> None:
    """A file or tree; unreadable or vanished parts are left out, and nothing private is ever among them."""
    if not source.exists() and not source.is_symlink():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir() and not source.is_symlink():
        private = shutil.ignore_patterns("auth.conf*", "*.key", "private", "opasswd")
        with suppress(shutil.Error):
            shutil.copytree(source, target, symlinks=True, ignore=private, dirs_exist_ok=True)
    else:
        shutil.copy2(source, target, follow_symlinks=False)


def _packages(root: Path) -> None:
    """The package database, so that apt inside knows what /usr holds; it names packages, nothing of the box's data."""
    dpkg = Path("/var/lib/dpkg")
    for name in ("status", "diversions", "statoverride", "alternatives", "info", "triggers", "arch"):
        _copy(dpkg / name, root / "var/lib/dpkg" / name)
    if dpkg.exists():
        for name in ("updates", "parts"):
            (root / "var/lib/dpkg" / name).mkdir(exist_ok=True)


def _accounts(root: Path) -> None:
    etc = root / "etc"
    lines = [f"{name}:x:{uid}:{gid}:{name}:{home}:{shell}" for name, uid, gid, home, shell in _ACCOUNTS]
    (etc / "passwd").write_text("\n".join(lines) + "\n")
    members = {"sudo": "user", "users": "user"}
    (etc / "group").write_text("".join(f"{name}:x:{gid}:{members.get(name, '')}\n" for name, gid in _GROUPS.items()))
    (etc / "shadow").write_text("".join(f"{account[0]}:*:19000:0:99999:7:::\n" for account in _ACCOUNTS))
    (etc / "gshadow").write_text("".join(f"{name}:*::{members.get(name, '')}\n" for name in _GROUPS))
    for name in ("shadow", "gshadow"):
        (etc / name).chmod(0o640)
        os.chown(etc / name, 0, _GROUPS["shadow"])
    (etc / "sudoers").write_text(
        f'Defaults env_reset\nDefaults secure_path="{PATH}"\nDefaults !use_pty\n'
        "root ALL=(ALL:ALL) ALL\n%sudo ALL=(ALL:ALL) NOPASSWD: ALL\n@includedir /etc/sudoers.d\n"
    )
    (etc / "sudoers").chmod(0o440)
    (etc / "environment").write_text(f'PATH="{PATH}"\n')
    (etc / "profile.d").mkdir(exist_ok=True)
    (etc / "profile.d/appliance.sh").write_text(
        f'case ":$PATH:" in *:{VENV}/bin:*) ;; *) PATH="{VENV}/bin:$PATH" ;; esac\n'
    )
    (etc / "mtab").symlink_to("/proc/self/mounts")
    (etc / "machine-id").write_text("")
    (etc / "fuse.conf").write_text("user_allow_other\n")


def _home(root: Path) -> None:
    home = root / "home/user"
    skeleton = Path("/etc/skel")
    shutil.copytree(skeleton, home, symlinks=True) if skeleton.is_dir() else home.mkdir()
    for path in (home, *home.rglob("*")):
        os.chown(path, USER_ID, USER_ID, follow_symlinks=False)
    home.chmod(0o755)
    for name in (".bashrc", ".profile"):
        if (skeleton / name).exists():
            shutil.copy2(skeleton / name, root / "root" / name)


def _venv(venv: Path, installation: Installation) -> None:
    """An environment of the sandbox's own: ``pip install`` writes here, the box's libraries are seen behind it."""
    version = ".".join(map(str, sys.version_info[:2]))
    packages = venv / f"lib/python{version}/site-packages"
    packages.mkdir(parents=True)
    base = "/usr/bin" if installation.in_usr() else f"{HOME}/python/bin"
    (venv / "pyvenv.cfg").write_text(f"home = {base}\ninclude-system-site-packages = false\nversion = {version}\n")
    (packages / "appliance-site.pth").write_text(f"{HOME}/site\n")
    programs = venv / "bin"
    programs.mkdir()
    (programs / "python3").symlink_to(f"{base}/{installation.interpreter()}")
    for name in ("python", f"python{version}"):
        (programs / name).symlink_to("python3")
    for name, module in {"pip": "pip", "pip3": "pip", "ipython": "IPython", "jupyter": "jupyter_core"}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec {VENV}/bin/python3 -m {module} "$@"\n')
        (programs / name).chmod(0o755)
    for path in (venv, *venv.rglob("*")):
        os.chown(path, USER_ID, USER_ID, follow_symlinks=False)
