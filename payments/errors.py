"""What can be wrong with a purchase, a card or a site. `code` is what the API answers."""

import uuid


class PaymentsError(Exception):
    code = "PAYMENTS_ERROR"


class PurchaseRefused(PaymentsError):
    """A purchase that cannot be started; nothing was written, and its text says what to do."""

    def __init__(self, code: str, sentence: str, field: str = "") -> None:
        super().__init__(sentence)
        self.code = code
        self.field = field  # of the request, where one is to blame


class KeyReused(PaymentsError):
    """The caller has used this idempotency key for another purchase."""

    code = "IDEMPOTENCY_KEY_REUSED"

    def __init__(self, purchase_id: uuid.UUID) -> None:
        super().__init__(
            f"This Idempotency-Key was sent before with another request, which is purchase "
            f"{purchase_id}. Send that request again as it was, or send this one with a key of its "
            "own."
        )
        self.purchase_id = purchase_id


class InvalidCard(PaymentsError):
    """A number, an expiry or a CVV that no card has. Its text never holds any of them."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class CvvUnreachable(PaymentsError):
    """The store of CVVs does not answer: nothing was kept, found or erased."""

    code = "CVV_STORE_UNREACHABLE"

    def __init__(self) -> None:
        super().__init__("The store of CVVs does not answer; try again in a moment.")
