"""The queue's websocket. Its messages are documented in docs/live-protocol.md."""

from jobs.consumers import ChangeReader, ListConsumer
from vendors.presentation import QueueListing


class QueueConsumer(ListConsumer):
    listing = QueueListing()
    changes = ChangeReader(listing)
