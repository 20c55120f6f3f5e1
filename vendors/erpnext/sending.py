"""The loop that tells the sites (`jobs/sending.py`), as the webhooks' does its receivers.

What is sent is a PUT of Frappe's REST API, to an address that was checked, as with webhooks.
"""

from collections.abc import Sequence
from datetime import timedelta
from functools import partial

import httpx
import structlog

from jobs.duties import register_duty
from jobs.sending import BackgroundLoop, RowSender
from jobs.webhooks.deliveries import Answer, Message
from jobs.webhooks.errors import AddressRefused
from jobs.webhooks.posting import Poster
from vendors.erpnext.updates import Update, claim_due, record, record_known

log = structlog.get_logger(__name__)

RESTART_AFTER = timedelta(seconds=10)  # should its thread have died


class Putter(Poster):
    """Writes fields of a document, as the user of the API key that is the message's secret."""

    async def _post(self, message: Message) -> Answer:
        try:
            return await super()._post(message)
        except AddressRefused as error:
            host = httpx.URL(message.url).host
            raise AddressRefused(
                f"{host} is no public address. Mark the connection as local if the site is on your "
                "own network."
            ) from error

    def _method_and_headers(self, message: Message) -> tuple[str, dict[str, str]]:
        (authorization,) = message.secrets
        # Else Frappe answers some errors with a page.
        return "PUT", {"Authorization": authorization, "Accept": "application/json"}


async def tell(update: Update, local: Putter, public: Putter) -> Answer:
    """What came of it; every failure is an Answer too."""
    message = update.message
    return message.problem or await (local if update.is_local else public).post(message)


class Teller(RowSender[Update]):
    name = "erpnext"
    most_at_once = 20  # sites; of one there is one update at a time
    database_threads = 2

    def __init__(self, local: Putter, public: Putter) -> None:
        super().__init__()
        self._local, self._public = local, public

    def claim(self, most: int) -> Sequence[Update]:
        return claim_due(most)

    async def send(self, update: Update) -> None:
        if update.is_known:
            await self.in_thread(partial(record_known, update))
            return
        answer = await tell(update, self._local, self._public)
        if not await self.in_thread(partial(record, update, answer)):
            log.warning("erpnext_claim_lost", line=str(update.line))


class BackgroundTeller(BackgroundLoop):
    """A loop of its own: no other duty waits for a slow site."""

    name = "erpnext"

    async def run(self) -> None:
        async with Putter(allow_private=True) as local, Putter(allow_private=False) as public:
            await Teller(local, public).run()


register_duty("erpnext_updates", BackgroundTeller().keep_running, every=RESTART_AFTER)
