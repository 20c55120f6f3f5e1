"""Set-up before anything is installed: a virtual environment with the pinned packages.

Standard library only, and run as a script by `./run`. When `.venv` is current it hands over to
`config/launch.py` within milliseconds; what the commands do lives there.
"""

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
UNFINISHED = VENV / "set-up-unfinished"  # `run` looks for it too

COMMANDS = {
    "demo": ("demo [--once]", "requests through a real browser to verified carts, then stay up"),
    "serve": ("serve", "everything up, until Ctrl-C"),
    "test": ("test [PYTEST ARGUMENTS]", "the test suite on its own PostgreSQL and Valkey"),
    "check": ("check", "lint, format, types, imports, migrations, deployment settings"),
    "bench": ("bench [NAME] [--json]", "measure; without a name, list what there is"),
    "chaos": ("chaos [NAME] [--json]", "kill it while it works, and count"),
    "manage": ("manage ARGUMENTS", "Django's manage.py with the same environment"),
}
DEVELOPMENT_COMMANDS = {"test", "check", "bench", "chaos"}

USAGE = "\n".join(
    [
        "Usage: ./run COMMAND",
        "",
        *(f"  {form:<26}{summary}" for form, summary in COMMANDS.values()),
        "",
        "Each sets up what it needs first. PORT chooses the web server's port; DATABASE_URL and",
        "REDIS_URL choose servers to use instead of embedded ones. Data and logs are in .data/.",
    ]
)


class SetUpError(Exception):
    """Set-up cannot go on; the message says what a person can do."""


def say(line: str) -> None:
    """One line for the person at the terminal. On stderr: stdout belongs to results."""
    print(line, file=sys.stderr, flush=True)


def main(arguments: Sequence[str]) -> int:
    """Sets up and becomes the command. Returns, with an exit status, only if there is none."""
    command = arguments[0] if arguments else "--help"
    if command in {"-h", "--help", "help"}:
        print(USAGE)
        return 0
    if command not in COMMANDS:
        say(f"./run has no command {command!r}.\n\n{USAGE}")
        return 2
    os.chdir(ROOT)
    try:
        set_up("development" if command in DEVELOPMENT_COMMANDS else "runtime")
    except SetUpError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("\nStopped. The next ./run takes set-up up again.")
        return 130
    return os.execv(PYTHON, [str(PYTHON), "-m", "config.launch", *arguments])


def set_up(level: str) -> None:
    """Makes `.venv` hold what `level` needs. Safe to repeat, interrupt, and run twice at once."""
    if is_current(level):
        return
    # Packages must be readable for the user that PostgreSQL runs as when we are root.
    os.umask(0o022)
    with set_up_lock():
        if is_current(level):
            return
        if not can_install():
            make_virtual_environment()
        UNFINISHED.touch()
        install_packages(level)
        for covered in ("runtime", level):
            stamp(covered).write_text(fingerprint(covered))
        UNFINISHED.unlink()


def is_current(level: str) -> bool:
    return (
        PYTHON.exists()
        and not UNFINISHED.exists()
        and stamp(level).exists()
        and stamp(level).read_text() == fingerprint(level)
    )


def stamp(level: str) -> Path:
    return VENV / f"installed-{level}"


def requirements(level: str) -> Path:
    return ROOT / ("requirements-dev.txt" if level == "development" else "requirements.txt")


def fingerprint(level: str) -> str:
    digest = hashlib.sha256(os.fsencode(PYTHON.resolve()))
    for path in (requirements("runtime"), requirements(level), ROOT / "constraints.txt"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@contextmanager
def set_up_lock() -> Iterator[None]:
    # The folder itself: a file in it may be replaced by an editor, and with it what was locked.
    folder = os.open(ROOT, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another ./run is setting up; waiting for it.")
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def can_install() -> bool:
    """Whether `.venv` is whole enough to install into. One left half-made is made anew."""
    if UNFINISHED.exists() or not PYTHON.exists():
        return False
    probe = "import pip, sys; sys.exit(sys.version_info < (3, 11))"
    done = subprocess.run([PYTHON, "-c", probe], check=False, capture_output=True)
    return done.returncode == 0


def make_virtual_environment() -> None:
    shutil.rmtree(VENV, ignore_errors=True)
    VENV.mkdir()
    UNFINISHED.touch()
    # The interpreter behind a virtual environment, when it is `.venv` itself that runs this.
    python = getattr(sys, "_base_executable", sys.executable)
    if not comes_with_pip() and not apt_install(
        f"python3.{sys.version_info.minor}-venv", label="Installing Python's venv package"
    ):
        run_quietly("Making .venv", [python, "-m", "venv", "--without-pip", VENV])
        install_pip_from_debian()
        return
    run_quietly("Making .venv", [python, "-m", "venv", VENV])


def comes_with_pip() -> bool:
    return importlib.util.find_spec("ensurepip") is not None


def install_pip_from_debian() -> None:
    """Debian leaves pip out of Python, and only root may install packages; anybody may fetch one.

    The wheel comes out of Debian's own package, with its signature checked by apt, and into lists
    of our own: those of the system may be missing or old.
    """
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise SetUpError(
            f"{sys.executable} comes without pip (the module ensurepip). "
            "Install your system's package for it, or use a Python from python.org."
        )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "lists" / "partial").mkdir(parents=True)
        (folder / "archives" / "partial").mkdir(parents=True)
        apt = ["apt-get", "-o", f"Dir::State::lists={folder / 'lists'}"]
        apt += ["-o", f"Dir::Cache={folder}", "-o", f"Dir::Cache::archives={folder / 'archives'}"]
        try:
            run_quietly("Reading Debian's package lists", [*apt, "update"])
            run_quietly("Fetching pip", [*apt, "download", "python3-pip-whl"], folder)
            package = next(folder.glob("python3-pip-whl*.deb"))
            run_quietly("Unpacking pip", ["dpkg-deb", "-x", package, folder / "pip"])
            wheel = next((folder / "pip").glob("usr/share/python-wheels/pip-*.whl"))
            run_quietly("Installing pip", [PYTHON, wheel / "pip", "install", "--no-index", wheel])
        except (SetUpError, StopIteration) as error:
            package_name = f"python3.{sys.version_info.minor}-venv"
            raise SetUpError(
                f"{error}\nThis Python comes without pip and it could not be fetched. "
                f"Run once: sudo apt-get install {package_name}"
            ) from error


def install_packages(level: str) -> None:
    run_quietly(
        "Installing Python packages" if level == "runtime" else "Installing development packages",
        [
            *(PYTHON, "-m", "pip", "install", "--no-input", "--disable-pip-version-check"),
            *("--progress-bar", "off", "--prefer-binary"),
            *("-r", requirements(level), "-c", ROOT / "constraints.txt"),
        ],
    )


def apt_install(package: str, *, label: str) -> bool:
    """Installs a Debian package if this machine has apt and we are root; says whether it did."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return False
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}

    def install() -> None:
        command = ["apt-get", "install", "--yes", "--no-install-recommends", package]
        run_quietly(label, command, environment=environment)

    try:
        try:
            install()
        except SetUpError:  # no package lists yet, or lists too old
            run_quietly("Reading the package lists", ["apt-get", "update"], environment=environment)
            install()
    except SetUpError as error:
        say(str(error))
        return False
    return True


def run_quietly(
    label: str,
    command: Sequence[str | Path],
    folder: Path = ROOT,
    environment: dict[str, str] | None = None,
) -> None:
    """Runs a command behind one line of progress; its output is shown only when it fails."""
    is_terminal = sys.stderr.isatty()
    say(f"{label} ...")
    output: list[str] = []
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            output.append(line)
            if is_terminal and line.strip():
                width = shutil.get_terminal_size().columns - 1
                sys.stderr.write(f"\r\033[K  {line.strip()}"[: width + 4])
                sys.stderr.flush()
    if is_terminal:
        sys.stderr.write("\r\033[K")
    if process.returncode != 0:
        raise SetUpError(
            f"{''.join(output[-40:])}\n{label} failed: {' '.join(map(str, command))} "
            f"ended with status {process.returncode}."
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
