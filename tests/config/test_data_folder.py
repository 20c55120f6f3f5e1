import base64
import os
import signal
import subprocess
import sys

import pytest

from config.bootstrap import ROOT
from config.data_folder import claim, find_running, kept_secret, new_credential_keys
from config.supervisor import RUN_MARK, LaunchError


def test_second_run_on_a_folder_is_refused_with_the_first_ones_address(tmp_path):
    with claim(tmp_path, "serve") as publish:
        publish({"PUBLIC_URL": "http://localhost:8000"})

        with pytest.raises(LaunchError) as refused, claim(tmp_path, "demo"):
            pass

    assert refused.value.code == "already_running"
    assert f"./run serve, process {os.getpid()} http://localhost:8000" in str(refused.value)


def test_addresses_are_found_only_while_the_run_lasts(tmp_path):
    with claim(tmp_path, "serve") as publish:
        publish({"REDIS_URL": "redis://localhost"})
        found = find_running(tmp_path)
    found_later = find_running(tmp_path)

    assert found is not None
    assert found["addresses"] == {"REDIS_URL": "redis://localhost"}
    assert found_later is None


def test_killed_run_leaves_neither_its_claim_nor_its_processes(tmp_path):
    script = (
        "import sys, time; from pathlib import Path; from config.data_folder import claim\n"
        "with claim(Path(sys.argv[1]), 'serve'): print('claimed', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert holder.stdout.readline() == b"claimed\n"
    left_behind = subprocess.Popen(["sleep", "60"], env={**os.environ, RUN_MARK: str(tmp_path)})
    stranger = subprocess.Popen(["sleep", "60"], env={**os.environ, RUN_MARK: "/elsewhere"})
    holder.kill()
    holder.wait()
    holder.stdout.close()

    with claim(tmp_path, "serve"):
        statuses = [left_behind.poll(), stranger.poll()]

    stranger.kill()
    stranger.wait()
    assert statuses == [-signal.SIGTERM, None]


def test_secret_is_made_once_for_its_owner_alone(tmp_path):
    path = tmp_path / "credential_keys"

    first = kept_secret(path, new_credential_keys)
    second = kept_secret(path, new_credential_keys)

    assert first == second
    assert path.stat().st_mode & 0o777 == 0o600
    assert [name.name for name in tmp_path.iterdir()] == ["credential_keys"]
    key_id, key = first.split(":")
    assert key_id
    assert len(base64.b64decode(key)) == 32
