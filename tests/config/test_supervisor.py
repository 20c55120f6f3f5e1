import os
import signal
import sys
from contextlib import contextmanager

import psutil
import pytest

from config.supervisor import RUN_MARK, LaunchError, LogFollower, Program, supervised

# Writes its process id, and starts a child out of its process group's reach, as a browser is.
PROGRAM = """
import os, pathlib, subprocess, sys, time
folder = pathlib.Path(sys.argv[1])
child = subprocess.Popen(["sleep", "60"], start_new_session=True)
(folder / "new").write_text(f"{os.getpid()} {child.pid}")
os.rename(folder / "new", folder / "pids")
time.sleep(60)
"""

on_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="needs the kernel's parent-death signal"
)


@contextmanager
def running(folder, *programs):
    environment = {**os.environ, RUN_MARK: str(folder)}
    sockets = folder / "s"
    sockets.mkdir(exist_ok=True)
    with supervised(programs, folder, sockets, environment) as supervisor:
        yield supervisor


def service(folder):
    script = folder / "program.py"
    script.write_text(PROGRAM)
    return Program("service", (sys.executable, str(script), str(folder)), group="services")


def wait_for_pids(supervisor, folder, other_than=()):
    def are_new():
        return (folder / "pids").exists() and read_pids() != other_than

    def read_pids():
        return tuple(map(int, (folder / "pids").read_text().split()))

    supervisor.wait_for("the program", are_new, seconds=20)
    return read_pids()


def is_alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_nothing_is_left_after_the_run_not_even_a_detached_grandchild(tmp_path):
    with running(tmp_path, service(tmp_path)) as supervisor:
        pids = wait_for_pids(supervisor, tmp_path)
        assert all(map(is_alive, pids))

    assert not any(map(is_alive, pids))


def test_killed_program_is_started_again(tmp_path):
    with running(tmp_path, service(tmp_path)) as supervisor:
        first = wait_for_pids(supervisor, tmp_path)
        os.kill(first[0], signal.SIGKILL)

        second = wait_for_pids(supervisor, tmp_path, other_than=first)

        assert is_alive(second[0])
        supervisor.check()


def test_killed_supervisor_is_reported_and_leaves_nothing(tmp_path):
    with running(tmp_path, service(tmp_path)) as supervisor:
        pids = wait_for_pids(supervisor, tmp_path)
        supervisord = psutil.Process(pids[0]).parent()
        supervisord.kill()
        supervisord.wait(5)

        with pytest.raises(LaunchError) as ended:
            supervisor.check()

    assert ended.value.code == "supervisor_ended"
    assert not any(map(is_alive, pids))


@on_linux
def test_programs_end_with_a_killed_supervisor_even_if_nobody_is_left_to_end_them(tmp_path):
    with running(tmp_path, service(tmp_path)) as supervisor:
        pids = wait_for_pids(supervisor, tmp_path)
        program = psutil.Process(pids[0])
        program.parent().kill()

        program.wait(5)

    assert not is_alive(pids[0])


def test_app_starts_when_told_and_stops_before_the_services(tmp_path):
    shell = (
        f"trap 'echo $0 >> {tmp_path}/stopped; exit' TERM; touch {tmp_path}/$0;"
        "while :; do sleep .05; done"
    )
    programs = [
        Program("service", ("sh", "-c", shell, "service"), group="services"),
        Program("web", ("sh", "-c", shell, "web")),
    ]
    with running(tmp_path, *programs) as supervisor:
        supervisor.wait_for("service", (tmp_path / "service").exists, seconds=10)
        web_was_started_early = (tmp_path / "web").exists()
        supervisor.start_app()
        supervisor.wait_for("web", (tmp_path / "web").exists, seconds=10)

    assert not web_was_started_early
    assert (tmp_path / "stopped").read_text() == "web\nservice\n"


def test_what_is_not_ready_in_time_is_named(tmp_path):
    with (
        running(tmp_path, service(tmp_path)) as supervisor,
        pytest.raises(LaunchError, match="Valkey is not ready after 0 s") as late,
    ):
        supervisor.wait_for("Valkey", lambda: False, seconds=0)

    assert late.value.code == "start_timeout"


def test_log_is_followed_from_its_end_and_across_rotation(tmp_path):
    log = tmp_path / "web.log"
    log.write_text("from an earlier run\n")
    follower = LogFollower(log)

    with log.open("a") as handle:
        handle.write("one\nhalf a li")
    first = list(follower.new_lines())
    with log.open("a") as handle:
        handle.write("ne\n")
    second = list(follower.new_lines())
    log.rename(tmp_path / "web.log.1")
    log.write_text("after rotation\n")
    third = list(follower.new_lines())

    assert [first, second, third] == [["one"], ["half a line"], ["after rotation"]]


def test_log_that_does_not_exist_yet_is_followed_from_its_beginning(tmp_path):
    follower = LogFollower(tmp_path / "web.log")
    nothing = list(follower.new_lines())
    (tmp_path / "web.log").write_text("first\n")

    assert nothing == []
    assert list(follower.new_lines()) == ["first"]


def test_program_that_keeps_dying_while_starting_is_reported_with_its_log(tmp_path):
    dying = Program("web", ("sh", "-c", "echo no such module; exit 1"), group="services")

    with (
        running(tmp_path, dying) as supervisor,
        pytest.raises(LaunchError, match=r"(?s)no such module.*web does not stay up") as failed,
    ):
        supervisor.wait_for("the web server", lambda: False, seconds=20)

    assert failed.value.code == "program_failed"
