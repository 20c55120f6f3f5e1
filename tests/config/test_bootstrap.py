import subprocess
import sys
from pathlib import Path

import pytest

from config import bootstrap


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose virtual environment is current."""
    for name in ("requirements.txt", "requirements-dev.txt", "constraints.txt"):
        (tmp_path / name).write_text("django==5.2\n")
    venv = tmp_path / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    monkeypatch.setattr(bootstrap, "VENV", venv)
    monkeypatch.setattr(bootstrap, "PYTHON", venv / "bin" / "python")
    monkeypatch.setattr(bootstrap, "UNFINISHED", venv / "set-up-unfinished")
    for level in ("runtime", "development"):
        bootstrap.stamp(level).write_text(bootstrap.fingerprint(level))
    return tmp_path


@pytest.fixture
def commands(monkeypatch):
    """What would have been run."""
    run = []
    monkeypatch.setattr(
        bootstrap, "run_quietly", lambda label, command, *_, **__: run.append(label)
    )
    return run


def test_current_environment_is_left_alone(project, commands):
    bootstrap.set_up("development")

    assert commands == []


def test_changed_requirements_are_installed_into_the_same_environment(
    project, commands, monkeypatch
):
    monkeypatch.setattr(bootstrap, "can_install", lambda: True)
    (project / "requirements.txt").write_text("django==6.0\n")

    bootstrap.set_up("runtime")

    assert commands == ["Installing Python packages"]
    assert bootstrap.is_current("runtime")
    assert not bootstrap.is_current("development")


def test_interrupted_set_up_is_done_again_from_the_start(project, commands, monkeypatch):
    monkeypatch.setattr(bootstrap, "comes_with_pip", lambda: True)
    bootstrap.UNFINISHED.touch()
    half_installed = project / ".venv" / "half-installed"
    half_installed.touch()

    bootstrap.set_up("runtime")

    assert commands == ["Making .venv", "Installing Python packages"]
    assert not half_installed.exists()
    assert not bootstrap.UNFINISHED.exists()


def test_failed_installation_leaves_set_up_unfinished(project, monkeypatch):
    def fail(label, *_, **__):
        raise bootstrap.SetUpError(label)

    monkeypatch.setattr(bootstrap, "can_install", lambda: True)
    monkeypatch.setattr(bootstrap, "run_quietly", fail)
    (project / "constraints.txt").write_text("django==6.0\n")

    with pytest.raises(bootstrap.SetUpError):
        bootstrap.set_up("runtime")

    assert bootstrap.UNFINISHED.exists()
    assert not bootstrap.is_current("runtime")


def test_failed_command_shows_its_output_and_its_status(capfd):
    command = ["sh", "-c", "echo no such package; exit 3"]

    with pytest.raises(bootstrap.SetUpError, match=r"(?s)no such package.*ended with status 3"):
        bootstrap.run_quietly("Installing", command, Path("/"))

    assert capfd.readouterr().err == "Installing ...\n"


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 0, "Usage: ./run COMMAND"),
        (["--help"], 0, "Usage: ./run COMMAND"),
        (["dance"], 2, "./run has no command 'dance'."),
    ],
)
def test_run_explains_itself_without_any_set_up(arguments, status, said):
    done = subprocess.run(
        [bootstrap.ROOT / "run", *arguments], capture_output=True, text=True, check=False
    )

    assert done.returncode == status
    assert said in done.stdout + done.stderr
