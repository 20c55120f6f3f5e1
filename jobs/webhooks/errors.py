"""What can be wrong with a webhook: each says what to do about it."""

from jobs.errors import JobsError


class WebhookRefused(JobsError):
    """The webhook cannot be as it was asked for; nothing was written."""


class InvalidUrl(WebhookRefused):
    code = "INVALID_URL"


class InvalidEvents(WebhookRefused):
    code = "INVALID_EVENTS"


class EndpointDisabled(WebhookRefused):
    code = "WEBHOOK_DISABLED"


class AddressRefused(JobsError):
    """The endpoint's name leads to an address that webhooks do not go to."""

    code = "address_refused"
