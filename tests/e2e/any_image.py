"""Run by test_image.py in namespaces of its own: the sidecar's part, then the main container's in some other image.

Arguments: the unpacked root of the built image, the root of the main container, a program there with its argument.
Prints one JSON object: seconds until the hook returned, envd's health, what a cell sees and what the program says
when that cell starts it. Everything ends with the pid namespace.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from pathlib import Path

WORKSPACE = "/mnt/agent-runtime"
SIDECAR = ["/usr/sbin/chroot", "--userspec=65532:65532"]
CELL = """
import json, os, platform, subprocess
words = {words!r}
done = subprocess.run(words, capture_output=True, text=True) if words else None
print(json.dumps({{"root": sorted(os.listdir("/")), "libc": platform.libc_ver()[1] or os.confstr("CS_GNU_LIBC_VERSION"),
    "said": done and done.stdout.strip(), "trouble": done and done.stderr, "environment": sorted(os.environ)}}))
"""


def main(image: Path, other: Path, words: list[str]) -> None:
    """Place the runtime as the sidecar does, start it as the hook does, run a cell."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for name in ("mnt/agent-runtime", "dev", "proc", "tmp"):
        (other / name).mkdir(parents=True, exist_ok=True)
    for name in ("mnt/agent-runtime", "tmp"):
        (other / name).chmod(0o1777)
    shared = image / WORKSPACE[1:]
    shared.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "--bind", other / WORKSPACE[1:], shared], check=True)
    place(image)
    subprocess.run(["mount", "-t", "proc", "proc", other / "proc"], check=True)
    subprocess.run(["mount", "--rbind", "/dev", other / "dev"], check=True)
    began = time.monotonic()
    hook = ["/usr/sbin/chroot", str(other), f"{WORKSPACE}/appliance-runtime", "start"]
    subprocess.run(hook, env={}, check=True, timeout=60)
    print(json.dumps({"start": time.monotonic() - began, "envd": envd(), "cell": cell(words)}))


def place(image: Path) -> None:
    """The image's entry point without arguments, until its own probe says that it is done; it ends on SIGTERM."""
    environment = {"AGENT_RUNTIME_WORKSPACE": WORKSPACE}
    program = [*SIDECAR, str(image), "/opt/appliance/appliance"]
    sidecar = subprocess.Popen(program, env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while subprocess.run([*program, "inject", "--check"], env=environment, check=False).returncode:
        assert sidecar.poll() is None, "the sidecar ended by itself"
        assert time.monotonic() < deadline, "the runtime was not placed in time"
    sidecar.terminate()
    assert sidecar.wait(timeout=20) == 0


def envd() -> int:
    """Status of the envd's health check."""
    connection = http.client.HTTPConnection("127.0.0.1", 49983, timeout=20)
    connection.request("GET", "/health")
    return connection.getresponse().status


def cell(words: list[str]) -> str:
    """What the code interpreter streams for a cell."""
    connection = http.client.HTTPConnection("127.0.0.1", 49999, timeout=60)
    body = json.dumps({"code": CELL.format(words=words)})
    connection.request("POST", "/execute", body, {"content-type": "application/json"})
    return connection.getresponse().read().decode()


if __name__ == "__main__":
    os.umask(0o022)
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
