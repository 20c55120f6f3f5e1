"""A process that serves a Restate service, to which Restate's server sends the work of `_toys`.

Run with `python -m`. Two of them are two services, so that each process gets half of the jobs: of
one service behind two processes, the server would choose the process by connection.
"""

import asyncio
import json
import os
import sys
from itertools import cycle

import hypercorn
import hypercorn.asyncio
import restate
import uvloop
from restate.server import install_shutdown_hook

from tests.bench._engine_ledger import note
from tests.bench._engine_work import ANSWERED, ASKED, FAN, JOIN, PIPELINE

SERVICES = ("bench_1", "bench_2")
KEYS = "BENCH_RESTATE_KEYS"  # the environment variable that names the file of the open questions
UNLIMITED = 2**31 - 1


# Steps are coroutines: a plain function would be run in a thread each.
async def step(job: str, name: str) -> None:
    note(job, name)


async def ask(job: str, key: str) -> None:
    """Says with which key the job's answer is to be given."""
    with open(os.environ[KEYS], "a") as keys:  # noqa: ASYNC230  as short as a line of the ledger
        keys.write(f"{job} {key}\n")
    note(job, ASKED)


async def pipeline(context: restate.Context, job: str) -> None:
    for name in PIPELINE:
        await context.run_typed(name, step, job=job, name=name)


async def fan_out_steps(context: restate.Context, job: str) -> None:
    await restate.gather(*(context.run_typed(name, step, job=job, name=name) for name in FAN))
    await context.run_typed(JOIN, step, job=job, name=JOIN)


async def child(context: restate.Context, job_and_name: list[str]) -> None:
    job, name = job_and_name
    await context.run_typed(name, step, job=job, name=name)


async def fan_out_calls(context: restate.Context, job: str) -> None:
    """Each step is an invocation of its own, on both processes."""
    calls = (
        context.generic_call(service, child.__name__, json.dumps([job, name]).encode())
        for service, name in zip(cycle(SERVICES), FAN, strict=False)
    )
    await restate.gather(*calls)
    await context.run_typed(JOIN, step, job=job, name=JOIN)


async def wait(context: restate.Context, job: str) -> None:
    key, answer = context.awakeable(type_hint=str)
    await context.run_typed(ASKED, ask, job=job, key=key)
    if await answer:
        note(job, ANSWERED)


async def serve(service_name: str, port: str) -> None:
    service = restate.Service(service_name)
    for handler in (pipeline, fan_out_steps, fan_out_calls, child, wait):
        service.handler()(handler)
    config = hypercorn.Config()
    config.bind = [f"127.0.0.1:{port}"]
    # As Restate's documentation asks of Hypercorn: without them a connection ends amid the work.
    config.h2_max_concurrent_streams = UNLIMITED
    config.keep_alive_max_requests = UNLIMITED
    config.keep_alive_timeout = UNLIMITED
    # The SDK takes the signal that ends us away from Hypercorn, which would go on for ever.
    stop = asyncio.Event()
    install_shutdown_hook(asyncio.get_running_loop(), stop.set)
    await hypercorn.asyncio.serve(restate.app([service]), config, shutdown_trigger=stop.wait)


if __name__ == "__main__":
    # A fifth faster here than asyncio's own loop, and as fast as Granian.
    uvloop.run(serve(*sys.argv[1:]))
