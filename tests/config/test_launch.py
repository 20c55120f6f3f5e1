import socket

import pytest

from config import launch
from config.supervisor import LaunchError


@pytest.fixture
def taken_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_port_that_was_named_is_not_silently_replaced(taken_port):
    with pytest.raises(LaunchError, match=f"Port {taken_port} is taken") as refused:
        launch.choose_port("127.0.0.1", str(taken_port))

    assert refused.value.code == "port_taken"


def test_next_free_port_is_chosen_where_none_was_named(taken_port, monkeypatch):
    free = launch.find_free_port()
    monkeypatch.setattr(launch, "PORTS", (taken_port, free))

    assert launch.choose_port("127.0.0.1", None) == free


@pytest.mark.parametrize("wanted", ["", "0", "http", "65536", "-1"])
def test_port_that_is_no_port_is_refused(wanted):
    with pytest.raises(LaunchError, match="PORT must be a number from 1 to 65535"):
        launch.choose_port("127.0.0.1", wanted)


@pytest.mark.parametrize("workers", ["0", "two", "-1", ""])
def test_number_of_workers_that_is_none_is_refused(workers):
    with pytest.raises(LaunchError, match="WORKERS must be a number from 1"):
        launch.app_programs("127.0.0.1", 8000, workers)


def test_each_worker_has_a_name_of_its_own():
    programs = launch.app_programs("127.0.0.1", 8000, "2")

    assert [program.name for program in programs] == ["web", "worker-1", "worker-2", "scheduler"]
    assert "worker-2@%h" in programs[2].command


def test_secrets_that_are_given_win_over_kept_ones(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "given")
    monkeypatch.delenv("CREDENTIAL_KEYS", raising=False)

    environment = launch.base_environment(tmp_path)

    assert environment["SECRET_KEY"] == "given"
    assert environment["CREDENTIAL_KEYS"] == (tmp_path / "credential_keys").read_text()
    assert environment["DATA_DIR"] == str(tmp_path)


def test_benchmark_that_does_not_exist_is_answered_with_those_that_do(
    tmp_path, monkeypatch, capsys
):
    (tmp_path / "cart.py").touch()
    (tmp_path / "__init__.py").touch()
    monkeypatch.setattr(launch, "BENCHES", tmp_path)

    status = launch.bench(["chart"])

    assert status == 2
    assert "Names: cart." in capsys.readouterr().err
