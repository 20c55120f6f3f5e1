"""The loop that makes webhooks' deliveries from the events, and sends them (`jobs/sending.py`)."""

from collections.abc import Sequence
from functools import partial
from time import monotonic

import structlog

from jobs.sending import LOOK_SECONDS, BackgroundLoop, RowSender
from jobs.webhooks.deliveries import Message, claim_due, forget_old, record
from jobs.webhooks.endpoints import forget_old_secrets
from jobs.webhooks.notices import tell_admins
from jobs.webhooks.outbox import BATCH, fan_out
from jobs.webhooks.posting import Poster

log = structlog.get_logger(__name__)

FORGET_SECONDS = 60.0


class Sender(RowSender[Message]):
    name = "webhooks"
    most_at_once = 100  # of all endpoints; of one deliveries.MOST_OF_ONE
    database_threads = 4

    def __init__(self, poster: Poster) -> None:
        super().__init__()
        self._poster = poster
        self._next_look = self._next_forgetting = 0.0

    async def look(self) -> None:
        """For new events, and for what is too old."""
        if monotonic() >= self._next_forgetting:
            self._next_forgetting = monotonic() + FORGET_SECONDS
            await self.in_thread(forget_old_secrets)
            await self.in_thread(forget_old)
            await self.in_thread(tell_admins)  # what was not told when it happened
        if monotonic() >= self._next_look:
            read = await self.in_thread(fan_out)
            if read == BATCH:
                self.look_again()  # there is more
            else:
                self._next_look = monotonic() + LOOK_SECONDS

    def claim(self, most: int) -> Sequence[Message]:
        return claim_due(most)

    async def send(self, message: Message) -> None:
        answer = message.problem or await self._poster.post(message)
        if not await self.in_thread(partial(record, message, answer)):
            log.warning("webhook_claim_lost", message=message.id, attempt=message.attempt)


class BackgroundSender(BackgroundLoop):
    name = "webhooks"

    def __init__(self, *, allow_private: bool) -> None:
        super().__init__()
        self._allow_private = allow_private
        self.keep_running()

    async def run(self) -> None:
        async with Poster(allow_private=self._allow_private) as poster:
            await Sender(poster).run()
