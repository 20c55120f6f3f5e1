"""The channel layer of pages: one that may be lost without losing a page.

Its messages only hasten what a page reads by itself (`consumers.py`). With Channels' own, a Redis
that restarts ends every open socket, though the database has all that they show.
"""

import asyncio
from contextlib import suppress
from typing import Any

import structlog
from channels_redis.core import RedisChannelLayer
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

AWAY = (RedisError, OSError)
PAUSE_SECONDS = 2.0


class HintLayer(RedisChannelLayer):
    """Sending still raises: who sends knows what to do about it."""

    async def receive(self, channel: str) -> Any:
        is_away = False
        while True:
            try:
                return await super().receive(channel)
            except AWAY as error:
                if not is_away:
                    log.warning("hints_not_received", error=repr(error))
                is_away = True
                await asyncio.sleep(PAUSE_SECONDS)

    async def group_add(self, group: str, channel: str) -> None:
        with suppress(*AWAY):
            await super().group_add(group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        with suppress(*AWAY):
            await super().group_discard(group, channel)
