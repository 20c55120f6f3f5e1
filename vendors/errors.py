"""What can be wrong with a request, a vendor or the pool. `code` is what the API answers."""

import uuid
from datetime import timedelta


class VendorsError(Exception):
    code = "VENDORS_ERROR"


class RequestRefused(VendorsError):
    """A purchase request that cannot be queued; its text says what to do."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class KeyReused(VendorsError):
    """The caller has used this idempotency key for another request."""

    code = "IDEMPOTENCY_KEY_REUSED"

    def __init__(self, item_id: uuid.UUID) -> None:
        super().__init__(
            "This idempotency key (or erpnext_item_id) was sent before with another request, which "
            f"is queue item {item_id}. Send that request again as it was, or send this one with an "
            "Idempotency-Key header of its own."
        )
        self.item_id = item_id


class MigrationRefused(VendorsError):
    """What stands in an account's cart cannot be moved as asked; nothing was written."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class NoAccountFree(VendorsError):
    """Every usable account is busy or has used up its day; one will be free again."""

    code = "no_account_free"

    def __init__(self, sentence: str, come_again_in: timedelta) -> None:
        super().__init__(sentence)
        self.come_again_in = come_again_in


class NoUsableAccount(VendorsError):
    """The vendor has no account that is not blocked: only a person can change that."""

    code = "no_usable_account"


class CartOutOfReach(NoUsableAccount):
    """The item may be in the cart of an account that cannot be used any more: only a person can
    tell."""

    code = "cart_out_of_reach"
