"""`python -m automation.sandbox --port 8200 --ledger PATH`: all sites, on loopback only."""

import argparse
import json
import socket
from contextlib import suppress
from pathlib import Path

import uvicorn

from automation.sandbox.app import create_app
from automation.sandbox.fronts import FRONTS
from automation.sandbox.vouchers.world import HOSTS


class Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        assert sockets is not None
        port = sockets[0].getsockname()[1]
        shops = {front.host.split(".")[0]: f"http://{front.host}:{port}" for front in FRONTS}
        sites = {host.split(".")[0]: f"http://{host}:{port}" for host in HOSTS}
        ready = {"url": f"http://127.0.0.1:{port}", "shops": shops, "sites": sites}
        print(json.dumps(ready), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m automation.sandbox", description=__doc__)
    parser.add_argument("--port", type=int, default=8200, help="0 takes a free one")
    parser.add_argument("--ledger", type=Path, required=True, help="SQLite file, made if missing")
    options = parser.parse_args()
    try:
        listener = socket.create_server(("127.0.0.1", options.port))
    except OSError as error:
        parser.error(f"{error.strerror}; choose another --port")
    config = uvicorn.Config(
        create_app(options.ledger),
        log_level="warning",
        access_log=False,
        lifespan="off",
        # An answer that hangs on purpose must not keep Ctrl-C from ending the shop.
        timeout_graceful_shutdown=1,
    )
    with suppress(KeyboardInterrupt):
        Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
