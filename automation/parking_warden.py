"""The warden of a parked session: a process of its own that outlives the workers which visit it.

It runs the URL guard's proxy and one Chromium, lets visitors in one after another (tabs side by
side), and ends with its Chromium: at its deadline, when it is told to, or when either of them dies.
Standard library only, as one of these lives for every session that waits. Who starts it, and what
a visitor does, is in `parking.py` and `parking_visit.py`.
"""

import asyncio
import hmac
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from automation.guard import Guard, NetworkPolicy, Refusal, open_connection, resolve_name

# A cold start on a busy two-core machine takes a few seconds; beyond this nothing comes any more.
LAUNCH_SECONDS = 30
ANSWER_SECONDS = 5  # of Chromium's own process, which answers in milliseconds
CLOSE_SECONDS = 2
LOOK_SECONDS = 0.5
# A visitor says that it is there every BEAT_SECONDS. One that has been silent for SILENT_SECONDS
# has to make room for the next: its process was stopped, or its machine is far too busy. After
# LOST_SECONDS it is cut off in any case, or its tab would stay for ever.
BEAT_SECONDS = 0.5
SILENT_SECONDS = 4
LOST_SECONDS = 15
# The worker that started us comes at once, if it lives.
FIRST_VISIT_SECONDS = 30
MAX_MESSAGE_BYTES = 1 << 20
MAX_ANSWER_BYTES = 64 << 20  # Chromium tells every page's address and title, whatever their length
PIPE_PLACES = (3, 4)  # where Chromium looks for its pipe, in to out

TOKEN_HEADER = "X-Parking-Token"  # noqa: S105
VISIT_HEADER = "X-Parking-Visit"

Message = dict[str, Any]


@dataclass(frozen=True)
class Order:
    """What a warden is told at its start. `commands` start Chromium: the next one where the one
    before does not work."""

    key: str
    token: str
    folder: str
    state: str
    commands: Sequence[Sequence[str]]
    domains: Sequence[str]
    allow_private: bool

    @property
    def profile(self) -> Path:
        return Path(self.folder, "profile")


@dataclass(eq=False)
class Visit:
    """A flow that uses the browser now."""

    name: str
    is_tab: bool
    keep_for: float
    writer: asyncio.StreamWriter
    beat_at: float
    target: str = ""
    tunnels: set[asyncio.StreamWriter] = field(default_factory=set)

    def tell(self, message: Message) -> None:
        self.writer.write(json.dumps(message).encode() + b"\n")


class LoudGuard(Guard):
    """Tells visitors of what it did not let through before Chromium learns of it."""

    tell: Callable[[Message], None] = staticmethod(lambda _: None)
    forbidden_ports: frozenset[int] = frozenset()

    def note_refusal(self, refusal: Refusal) -> None:
        super().note_refusal(refusal)
        self.tell({"refusal": asdict(refusal)})

    def note_failure(self, failure: Refusal) -> None:
        super().note_failure(failure)
        self.tell({"failure": asdict(failure)})


class Browser:
    """Chromium, spoken to over its own pipe: it ends when that closes, whatever becomes of us."""

    port: int
    path: str  # of its DevTools
    _pipe: asyncio.WriteTransport
    _listening: asyncio.Task[None]

    def __init__(self, process: subprocess.Popen[bytes], profile: Path) -> None:
        self.process = process
        self.ended = asyncio.Event()
        self.lost: set[str] = set()  # targets that crashed or were closed
        self._profile = profile
        self._answers: dict[int, asyncio.Future[Message]] = {}
        self._number = 0

    @classmethod
    async def launch(cls, command: Sequence[str], profile: Path, log: Path) -> "Browser":
        """Raises OSError or TimeoutError."""
        commands, answers = _open_pipes()
        with log.open("ab") as output:
            try:
                process = subprocess.Popen(  # noqa: ASYNC220 - nothing else happens here yet
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=PIPE_PLACES,
                    process_group=0,
                )
            finally:
                hold_places()
        browser = cls(process, profile)
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=MAX_ANSWER_BYTES)
        await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(answers, "rb", 0)
        )
        browser._pipe, _ = await loop.connect_write_pipe(
            asyncio.BaseProtocol, os.fdopen(commands, "wb", 0)
        )
        browser._listening = asyncio.create_task(browser._listen(reader))
        try:
            async with asyncio.timeout(LAUNCH_SECONDS):
                await browser._wait_for_port()
        except BaseException:
            browser.kill()
            raise
        return browser

    async def _wait_for_port(self) -> None:
        file = self._profile / "DevToolsActivePort"
        while True:
            if self.ended.is_set():
                raise OSError("Chromium ended at once")
            lines = file.read_text().split() if file.exists() else []
            if len(lines) == 2:
                self.port, self.path = int(lines[0]), lines[1]
                return
            await asyncio.sleep(0.01)

    async def call(self, method: str, **parameters: Any) -> Message:
        """Raises OSError where Chromium refuses or has ended, TimeoutError where it is silent."""
        if self.ended.is_set():
            raise OSError("Chromium has ended")
        self._number += 1
        number = self._number
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        message = {"id": number, "method": method, "params": parameters}
        self._pipe.write(json.dumps(message).encode() + b"\0")
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                found = await answer
        finally:
            del self._answers[number]
        if "error" in found:
            raise OSError(f"{method}: {found['error'].get('message')}")
        result: Message = found["result"]
        return result

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        with suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            while True:
                message = json.loads((await reader.readuntil(b"\0"))[:-1])
                answer = self._answers.get(message.get("id"))
                if answer is not None and not answer.done():
                    answer.set_result(message)
                elif message.get("method") in ("Target.targetCrashed", "Target.targetDestroyed"):
                    self.lost.add(message["params"]["targetId"])
        self.ended.set()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(OSError("Chromium has ended"))

    async def close(self) -> None:
        with suppress(OSError, TimeoutError):
            await self.call("Browser.close")
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.ended.wait()
        self.kill()

    def kill(self) -> None:
        """Ends what is left of it: it may be a script with Chromium below it."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Warden:
    def __init__(self, order: Order, guard: LoudGuard, browser: Browser) -> None:
        self._order = order
        self._guard = guard
        self._browser = browser
        self._visits: dict[str, Visit] = {}
        self._page = ""  # the target that is not a tab of anybody's
        self._filler: str | None = None
        self._is_filled = False
        self._count = 0
        self._started_at = time.time()
        self._deadline = asyncio.get_running_loop().time() + FIRST_VISIT_SECONDS
        self._ending = asyncio.Event()
        self._closing: set[asyncio.Future[None]] = set()
        guard.tell = self._tell_all
        guard.forbidden_ports = frozenset((browser.port,))

    def end(self) -> None:
        self._ending.set()

    async def run(self) -> None:
        """Returns when the session has ended; Chromium may live then."""
        browser = self._browser
        # Tabs and pages that crash are told over this pipe, as long as it is open.
        await browser.call("Target.setDiscoverTargets", discover=True)
        await browser.call("Browser.setDownloadBehavior", behavior="deny")
        targets = (await browser.call("Target.getTargets"))["targetInfos"]
        pages = [each["targetId"] for each in targets if each["type"] == "page"]
        self._page = pages[0] if pages else ""
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, limit=MAX_MESSAGE_BYTES
        )
        self._save_state()
        loop = asyncio.get_running_loop()
        while not (self._ending.is_set() or browser.ended.is_set() or self._is_over(loop.time())):
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._ending.wait()
        self._server.close()
        for visit in tuple(self._visits.values()):
            self._cut_off(visit)

    def _is_over(self, now: float) -> bool:
        for visit in tuple(self._visits.values()):
            if now - visit.beat_at > LOST_SECONDS:
                self._cut_off(visit)
        return not self._visits and now > self._deadline

    def _tell_all(self, message: Message) -> None:
        for visit in self._visits.values():
            visit.tell(message)

    def _save_state(self) -> None:
        now = asyncio.get_running_loop().time()
        state = {
            "key": self._order.key,
            "pid": os.getpid(),
            "browser": self._browser.process.pid,
            "folder": self._order.folder,
            "port": self._server.sockets[0].getsockname()[1],
            "token": self._order.token,
            "started_at": self._started_at,
            "ends_at": time.time() + self._deadline - now,
        }
        new = Path(self._order.folder, "state.new")
        with open(new, "w", opener=partial(os.open, mode=0o600)) as file:
            json.dump(state, file)
        new.replace(self._order.state)

    # Visitors

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            first = await reader.readline()
            if first.startswith(b"{"):
                await self._talk(json.loads(first), reader, writer)
            elif first.startswith(b"GET "):
                await self._relay(first, reader, writer)
        except (OSError, ValueError, KeyError, TypeError, asyncio.IncompleteReadError):
            pass  # a stranger, or a visitor that has gone
        finally:
            writer.close()

    def _may_enter(self, token: object) -> bool:
        return isinstance(token, str) and hmac.compare_digest(token, self._order.token)

    async def _talk(
        self, hello: Message, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if not self._may_enter(hello.get("token")):
            return
        now = asyncio.get_running_loop().time()
        visit = Visit(hello["visit"], hello["tab"], hello["keep_for"], writer, now)
        if obstacle := self._find_obstacle(visit, now):
            visit.tell({"wait": obstacle})
            return
        self._visits[visit.name] = visit
        try:
            visit.tell(await self._admit(visit))
            while line := await reader.readline():
                self._hear(visit, json.loads(line))
        finally:
            self._cut_off(visit)

    def _find_obstacle(self, visit: Visit, now: float) -> str | None:
        for other in tuple(self._visits.values()):
            fills = other.name == self._filler and not self._is_filled
            if not fills and (visit.is_tab or other.is_tab):
                continue
            if now - other.beat_at < SILENT_SECONDS:
                return "filling" if fills else "busy"
            # It may go on at any moment, with a click that was meant for what the page was then.
            self._cut_off(other)
        return None

    async def _admit(self, visit: Visit) -> Message:
        fills = not self._is_filled
        if fills:
            self._filler = visit.name
        is_new_page = visit.is_tab or not self._page or self._page in self._browser.lost
        if is_new_page:
            created = await self._browser.call("Target.createTarget", url="about:blank")
            visit.target = created["targetId"]
            if not visit.is_tab:
                self._page = visit.target
        else:
            visit.target = self._page
        self._count += 1
        return {
            "key": self._order.key,
            "is_alone": len(self._visits) == 1,
            "path": self._browser.path,
            "target": visit.target,
            "fills": fills,
            "is_new_page": is_new_page,
            "visits": self._count,
            "age": time.time() - self._started_at,
        }

    def _hear(self, visit: Visit, message: Message) -> None:
        loop = asyncio.get_running_loop()
        visit.beat_at = loop.time()
        self._deadline = visit.beat_at + visit.keep_for
        if message.get("filled"):
            self._is_filled = True

    def _cut_off(self, visit: Visit) -> None:
        """Ends a visit, whoever ends it: from now on nothing that it sends reaches the browser."""
        if self._visits.pop(visit.name, None) is None:
            return
        for writer in (*visit.tunnels, visit.writer):
            writer.transport.abort()
        self._deadline = asyncio.get_running_loop().time() + visit.keep_for
        if visit.is_tab and visit.target:
            closing = asyncio.ensure_future(self._close_target(visit.target))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        if not self._ending.is_set():
            self._save_state()

    async def _close_target(self, target: str) -> None:
        with suppress(OSError, TimeoutError):
            await self._browser.call("Target.closeTarget", targetId=target)

    async def _relay(
        self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Hands a visitor's DevTools connection on to Chromium, for as long as the visit lasts."""
        head = first + await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")[1:]
        headers = {
            name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)
        }
        visit = self._visits.get(headers.get(VISIT_HEADER.lower(), ""))
        if visit is None or not self._may_enter(headers.get(TOKEN_HEADER.lower())):
            return
        from_browser, to_browser = await asyncio.open_connection("127.0.0.1", self._browser.port)
        visit.tunnels |= {writer, to_browser}
        try:
            if visit.name not in self._visits:
                return  # it was cut off this moment
            to_browser.write(head)
            await asyncio.wait(
                {
                    asyncio.ensure_future(_pump(reader, to_browser)),
                    asyncio.ensure_future(_pump(from_browser, writer)),
                },
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            visit.tunnels -= {writer, to_browser}
            to_browser.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


def _open_pipes() -> tuple[int, int]:
    """Chromium's ends of its pipe as the descriptors that it knows them by; returns ours."""
    read_command, write_command = os.pipe()
    read_answer, write_answer = os.pipe()
    for theirs, place in zip((read_command, write_answer), PIPE_PLACES, strict=True):
        os.dup2(theirs, place)
        os.close(theirs)
    return write_command, read_answer


def hold_places() -> None:
    """Has nothing in the descriptors of Chromium's pipe, but has them: no socket may get them."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for place in PIPE_PLACES:
        os.dup2(nothing, place)
    if nothing not in PIPE_PLACES:
        os.close(nothing)


async def keep(order: Order) -> None:
    """From the start of the browser to its end. Raises OSError or TimeoutError when none starts."""
    ended_by = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, ended_by.set)
    guard = await _open_guard(order)
    browser = await _launch(order, guard)
    try:
        warden = Warden(order, guard, browser)
        watching = asyncio.create_task(_end_with(warden, ended_by))
        await warden.run()
        watching.cancel()
    finally:
        _forget_state(order)
        await browser.close()
        guard.close()


async def _end_with(warden: Warden, event: asyncio.Event) -> None:
    await event.wait()
    warden.end()


async def _open_guard(order: Order) -> LoudGuard:
    async def connect(protocol: asyncio.Protocol, address: str, port: int) -> asyncio.Transport:
        if port in guard.forbidden_ports:  # a page that may go to loopback must not drive itself
            raise OSError("this port is the browser's own")
        return await open_connection(protocol, address, port)

    policy = NetworkPolicy(tuple(order.domains), allow_private=order.allow_private)
    guard = await LoudGuard.open(policy, resolve=resolve_name, connect=connect)
    return guard


async def _launch(order: Order, guard: LoudGuard) -> Browser:
    failure: Exception = OSError("there is no command to start Chromium with")
    for command in order.commands:
        proxied = [each.replace("{proxy}", guard.proxy_url) for each in command]
        try:
            return await Browser.launch(proxied, order.profile, Path(order.folder, "chromium.log"))
        except (OSError, TimeoutError) as error:
            failure = error
    raise failure


def _forget_state(order: Order) -> None:
    """Unless another warden has the key by now."""
    state = Path(order.state)
    with suppress(OSError, ValueError):
        if json.loads(state.read_text())["folder"] == order.folder:
            state.unlink()


def main() -> int:
    hold_places()  # before anything else opens a file
    os.umask(0o077)  # the profile has the session's cookies
    order = Order(**json.loads(sys.stdin.read()))
    try:
        asyncio.run(keep(order))
    except (OSError, TimeoutError) as error:
        Path(order.folder, "failure").write_text(str(error) or type(error).__name__)
        return 1
    shutil.rmtree(order.folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
