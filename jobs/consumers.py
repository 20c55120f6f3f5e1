"""The websockets: a job's page and the lists. The messages are documented in docs/live-protocol.md.

The database is the only source. A message of the channel layer says no more than "look again" and
may be lost. It wakes the connection's own task, which reads and sends: a slow reader holds up
nobody else, and finds one wake-up waiting for it and not a thousand.
"""

import asyncio
import json
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import monotonic
from typing import Any, ClassVar, ParamSpec, TypeVar
from urllib.parse import parse_qs

import structlog
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.core.serializers.json import DjangoJSONEncoder
from django.utils import timezone

from accounts.models import User
from jobs.listing import JobListing, Listing, read_page
from jobs.live import JOBS_GROUP
from jobs.models import Job
from jobs.snapshots import jobs_visible_to, read_changes

log = structlog.get_logger(__name__)

GATHER_SECONDS = 0.1  # what changes within it is read and sent at once
TICK_SECONDS = 20.0  # for what no hint told us of, and to see whether the caller still may look
MOST_FOLLOWED = 500  # ids in one connection's `?ids=`

# Close codes. With these four the same request would be refused again; after any other, reconnect.
BAD_REQUEST = 4400
LOG_IN = 4401
FORBIDDEN = 4403
NOT_FOUND = 4404

P = ParamSpec("P")
T = TypeVar("T")


class Refused(Exception):
    """The connection is closed with this code; the reason (at most 123 bytes) is for people."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


async def read(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls what uses the database, in a thread: not in the one thread that a process keeps for
    its thread-sensitive calls, where every connection would wait for every other."""
    result: T = await database_sync_to_async(function, thread_sensitive=False)(*args, **kwargs)
    return result


class LiveConsumer(AsyncWebsocketConsumer, ABC):
    """One connection. Accepted before it is judged: only then can a close code say why."""

    task: asyncio.Task[None] | None = None

    @abstractmethod
    def parse_query(self, query: dict[str, str]) -> None:
        """Takes what the client asked with. Raises Refused for what makes no sense."""

    @abstractmethod
    def check_access(self, user: User) -> None:
        """Raises Refused if `user` may not see this. Runs in a thread; may use the database."""

    @abstractmethod
    async def send_current(self) -> None:
        """Sends what makes a client right whatever it missed, and always something: at the start,
        and then every TICK_SECONDS."""

    @abstractmethod
    async def send_news(self) -> None:
        """Sends what changed since; called when woken."""

    @abstractmethod
    async def jobs_changed(self, message: dict[str, Any]) -> None:
        """Some process tells which jobs have changed; wakes this connection if one concerns it."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.woken = asyncio.Event()
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self.task:  # not in `disconnect`, which nobody calls when something failed
                self.task.cancel()

    async def connect(self) -> None:
        await self.accept()
        self.task = asyncio.create_task(self._follow())

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(JOBS_GROUP, self.channel_name)

    async def say(self, message: dict[str, Any]) -> None:
        await self.send(text_data=json.dumps(message, cls=DjangoJSONEncoder))

    async def _follow(self) -> None:
        try:
            query = parse_qs(self.scope["query_string"].decode("latin1"), keep_blank_values=True)
            self.parse_query({name: values[-1] for name, values in query.items()})
            while True:
                await self._admit()
                await self.send_current()
                tick_at = monotonic() + TICK_SECONDS
                while await self._is_woken_before(tick_at):
                    await self.send_news()
        except Refused as refused:
            await self.close(refused.code, refused.reason)
        except OSError:
            pass  # the client left while we were sending
        except Exception:
            log.exception("live_socket_failed", path=self.scope["path"])
            await self.close(1011, "Something failed on the server. Connect again.")

    async def _admit(self) -> None:
        def check() -> None:
            user = self.scope["find_user"]()
            if user is None:
                raise Refused(LOG_IN, "The session or the API key is not valid (any more).")
            self.check_access(user)

        await read(check)
        # Joined before anything is read, so that no change falls between; and again with each tick,
        # for a channel layer forgets its groups when it restarts, and after a day.
        await self.channel_layer.group_add(JOBS_GROUP, self.channel_name)

    async def _is_woken_before(self, moment: float) -> bool:
        try:
            await asyncio.wait_for(self.woken.wait(), max(moment - monotonic(), 0))
        except TimeoutError:
            return False
        return monotonic() < moment


class JobConsumer(LiveConsumer):
    """One job: a snapshot, or the events after `?after=N`; then every event, in order."""

    @property
    def job_id(self) -> uuid.UUID:
        job_id: uuid.UUID = self.scope["url_route"]["kwargs"]["job_id"]
        return job_id

    def parse_query(self, query: dict[str, str]) -> None:
        self.number = parse_number(query["after"]) if "after" in query else None
        self.resume_after: int | None = None
        self.artifacts: set[uuid.UUID] = set()
        self.subject: dict[str, Any] | None = None

    def check_access(self, user: User) -> None:
        if not jobs_visible_to(user).filter(pk=self.job_id).exists():
            raise Refused(NOT_FOUND, "There is no such job, or it is not yours.")

    async def send_current(self) -> None:
        await self._send_changes()
        await self.say({"type": "ping", "number": self.number, "at": timezone.now()})

    async def send_news(self) -> None:
        await asyncio.sleep(GATHER_SECONDS)
        self.woken.clear()
        if self.resume_after is not None:
            self.number, self.resume_after = self.resume_after, None
        await self._send_changes()

    async def jobs_changed(self, message: dict[str, Any]) -> None:
        if str(self.job_id) in message["jobs"]:
            self.woken.set()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        try:
            message = json.loads(text_data or "")
            if message["type"] == "resume":
                self.resume_after = parse_number(message["after"])
                self.woken.set()
        except (ValueError, TypeError, KeyError, Refused):
            await self.close(BAD_REQUEST, 'Send {"type": "resume", "after": NUMBER} or nothing.')

    async def _send_changes(self) -> None:
        """Sends the events since `number`, and what else is new; or a snapshot."""
        try:
            message = await read(read_changes, self.job_id, self.number)
        except Job.DoesNotExist:
            raise Refused(NOT_FOUND, "The job was deleted.") from None
        if message["type"] == "snapshot":
            self.number = message["number"]
        else:
            message["artifacts"] = [
                artifact
                for artifact in message["artifacts"]
                if artifact["id"] not in self.artifacts
            ]
            if message["subject"] == self.subject:
                del message["subject"]
            if not (message["events"] or message["artifacts"] or "subject" in message):
                return
            if message["events"]:
                self.number = message["events"][-1]["number"]
        self.artifacts |= {artifact["id"] for artifact in message["artifacts"]}
        self.subject = message.get("subject", self.subject)
        await self.say(message)


def parse_number(value: Any) -> int:
    try:
        return int(value)
    except (ValueError, TypeError):
        raise Refused(BAD_REQUEST, "`after` is the number of the last event you have.") from None


@dataclass(frozen=True)
class Changes:
    rows: list[dict[str, Any]]
    stats: dict[str, int]


class ChangeReader:
    """Reads changed rows for every open list of this process: what changes within GATHER_SECONDS
    is one query for all of them, however many they are."""

    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        self._job_ids: set[uuid.UUID] = set()
        self._reading: asyncio.Task[Changes] | None = None

    async def read(self, job_ids: Iterable[uuid.UUID]) -> Changes:
        """The rows of these jobs, and of those that others asked for at the same time."""
        self._job_ids.update(job_ids)
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
        return await asyncio.shield(self._reading)  # a client that leaves ends only its own part

    async def _read(self) -> Changes:
        await asyncio.sleep(GATHER_SECONDS)
        job_ids, self._job_ids, self._reading = self._job_ids, set(), None
        return await read(self._read_now, job_ids)

    def _read_now(self, job_ids: set[uuid.UUID]) -> Changes:
        rows = [self.listing.row(instance) for instance in self.listing.of_jobs(job_ids)]
        return Changes(rows, self.listing.stats())


class ListConsumer(LiveConsumer):
    """A list: its newest rows (with `?status=` those of it, with `?ids=` just these), and then
    each row that changes."""

    listing: ClassVar[Listing]
    changes: ClassVar[ChangeReader]

    def parse_query(self, query: dict[str, str]) -> None:
        self.status = query.get("status", "")
        if self.status and self.status not in dict(self.listing.statuses):
            raise Refused(BAD_REQUEST, "There is no such status; see docs/live-protocol.md.")
        ids = query["ids"].split(",") if "ids" in query else []
        if len(ids) > MOST_FOLLOWED:
            raise Refused(BAD_REQUEST, f"At most {MOST_FOLLOWED} ids for one connection.")
        try:
            self.ids = {uuid.UUID(id_) for id_ in ids}
        except ValueError:
            raise Refused(BAD_REQUEST, "ids are UUIDs with commas between: ?ids=ID,ID") from None

    def check_access(self, user: User) -> None:
        if not (user.is_staff or self.ids):
            raise Refused(FORBIDDEN, "This is for admins. Follow your own requests with ?ids=ID,ID")
        self.user = user

    async def connect(self) -> None:
        self.changed: set[uuid.UUID] = set()
        await super().connect()

    async def send_current(self) -> None:
        rows, stats = await read(self._read_all)
        self.followed = {row["id"] for row in rows}
        await self._say_rows(rows, stats, complete=True)

    async def send_news(self) -> None:
        self.woken.clear()
        changed, self.changed = self.changed, set()
        if len(changed) > MOST_FOLLOWED:  # we fell behind: the list anew is shorter
            await self.send_current()
            return
        changes = await self.changes.read(changed)
        rows = changes.rows
        if self.ids:
            rows = [row for row in rows if row["id"] in self.followed]
        if rows:
            await self._say_rows(rows, changes.stats, complete=False)

    async def jobs_changed(self, message: dict[str, Any]) -> None:
        self.changed.update(map(uuid.UUID, message["jobs"]))
        self.woken.set()

    def _read_all(self) -> tuple[list[dict[str, Any]], dict[str, int]]:
        if self.ids:
            rows = self.listing.visible_to(self.user).filter(pk__in=self.ids).order_by("-pk")
            return [self.listing.row(instance) for instance in rows], {}
        return read_page(self.listing, self.user, status=self.status).rows, self.listing.stats()

    async def _say_rows(
        self, rows: list[dict[str, Any]], stats: dict[str, int], *, complete: bool
    ) -> None:
        message = {"type": self.listing.name, self.listing.name: rows, "complete": complete}
        if not self.ids:
            message["stats"] = stats
        await self.say({**message, "at": timezone.now()})


class JobListConsumer(ListConsumer):
    listing = JobListing()
    changes = ChangeReader(listing)
