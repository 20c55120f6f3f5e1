"""How many requests a user may make to the cart operations in a minute."""

from functools import cache
from typing import Any

import redis
import structlog
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

log = structlog.get_logger(__name__)

WINDOW_SECONDS = 60
# The times of a user's requests of the last minute, in microseconds of the server's own clock. In
# one script: of two requests at once, only one is the last that is allowed. Answers with how long
# to wait, 0 for a request that is let through; a refused one does not count.
TAKE = """
local now = redis.call('TIME')
now = now[1] * 1000000 + now[2]
local window = tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], 0, now - window)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then
    local oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
    return oldest[2] + window - now
end
local member = string.format('%.0f', now)
while redis.call('ZADD', KEYS[1], 'NX', now, member) == 0 do
    member = member .. '+'
end
redis.call('PEXPIRE', KEYS[1], window / 1000)
return 0
"""


class CartThrottle(BaseThrottle):
    """All processes count together, in Valkey. Should it be away, requests are let through: a
    request that is lost costs more than one too many."""

    def __init__(self) -> None:
        self._wait = 0.0

    def allow_request(self, request: Request, view: Any) -> bool:
        most = settings.CART_REQUESTS_PER_MINUTE
        if not most:
            return True
        try:
            wait = take(f"cartwright:requests:cart:{request.user.pk}", most)
        except redis.RedisError as error:
            log.warning("requests_not_counted", error=repr(error))
            return True
        self._wait = wait
        return wait == 0

    def wait(self) -> float:
        """Seconds until the oldest request of the last minute is older than that."""
        return self._wait


def take(key: str, most: int) -> float:
    """Counts a request; how many seconds to wait before it, 0 if it may be made."""
    answer: Any = _client().eval(TAKE, 1, key, str(most), str(WINDOW_SECONDS * 1_000_000))
    return float(answer) / 1_000_000


@cache
def _client() -> redis.Redis:
    # Whoever calls waits for us: an answer that does not come at once is none.
    return redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=0.5,
        socket_connect_timeout=0.5,
        retry=Retry(NoBackoff(), 0),
    )
