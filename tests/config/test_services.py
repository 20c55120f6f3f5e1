import os
import subprocess

import psycopg
import pytest
import redis

from config.data_folder import temporary_data_folder
from config.services import prepare_services
from config.supervisor import RUN_MARK, supervised


@pytest.fixture
def data():
    with temporary_data_folder() as folder:
        yield folder


def up(data):
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_URL")}
    environment[RUN_MARK] = str(data)
    services = prepare_services(data, environment, durable=False)
    return services, supervised(services.programs, data, services.sockets, environment)


def test_data_is_there_again_after_a_restart(data):
    services, running = up(data)
    with running as supervisor:
        services.wait_until_ready(supervisor)
        with psycopg.connect(services.environment["DATABASE_URL"]) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS number")
        with redis.Redis.from_url(services.environment["REDIS_URL"]) as client:
            client.set("kept", 1)
            policy = client.config_get("maxmemory-policy")

    services, running = up(data)
    with running as supervisor:
        services.wait_until_ready(supervisor)
        with psycopg.connect(services.environment["DATABASE_URL"]) as connection:
            assert connection.execute("SELECT number FROM kept").fetchone() == (1,)
            assert connection.execute("SHOW server_version").fetchone()[0].startswith("18.")
        with redis.Redis.from_url(services.environment["REDIS_URL"]) as client:
            assert client.get("kept") == b"1"

    assert policy == {"maxmemory-policy": "noeviction"}


def test_servers_that_are_named_are_not_started(data):
    named = {"DATABASE_URL": "postgresql://db/x", "REDIS_URL": "redis://cache"}

    services = prepare_services(data, named)

    assert services.programs == ()
    assert services.environment == {}
    assert not (data / "postgres").exists()


def test_creation_cut_off_and_a_stale_pid_file_do_not_stop_the_database(data):
    (data / "postgres.unfinished").mkdir()
    (data / "postgres.unfinished" / "PG_VERSION").write_text("18")
    prepare_services(data, {"REDIS_URL": "redis://cache"})
    pid_file = data / "postgres" / "postmaster.pid"
    with subprocess.Popen(["sleep", "60"]) as somebody_else:
        pid_file.write_text(f"{somebody_else.pid}\n{data / 'postgres'}\n")

        prepare_services(data, {"REDIS_URL": "redis://cache"})

        somebody_else.kill()
    assert not pid_file.exists()
    assert not (data / "postgres.unfinished").exists()


def test_long_path_gets_its_sockets_elsewhere(data):
    deep = data / ("long" * 20)
    deep.mkdir()

    services = prepare_services(deep, {"REDIS_URL": "redis://cache"})

    assert services.sockets.parent != deep
    assert len(str(services.sockets)) < 50
    services.sockets.rmdir()


def test_servers_are_out_of_reach_for_strangers(data):
    services = prepare_services(data, {})

    assert services.sockets.stat().st_mode & 0o077 == 0
    assert (data / "postgres").stat().st_mode & 0o077 == 0
    assert (data / "valkey" / "valkey.conf").stat().st_mode & 0o777 == 0o600
    with redis.Redis.from_url(services.environment["REDIS_URL"]) as client:
        assert client.connection_pool.connection_kwargs["password"]
