"""Adding to a cart as an effect: one act an item, whoever asks for it and how often; and one more
for each migration that moves the item to another account's cart.

The intent says whose cart the item may be in and what that cart held before, so that reading it
tells later how much of the add has arrived. Pressing and reading are the shop flow's.
"""

import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from django.db.models import OuterRef, QuerySet, Subquery
from django.db.models.fields.json import KT

from automation.shop import AddIntent, CartLine
from automation.shop.lines import describe_cart
from jobs import effects
from jobs.effects import CannotTell, DidNotHappen, Happened
from jobs.models import Effect
from jobs.statements import ClaimedStep
from vendors.models import QueueItem, VendorAccount

Status = Effect.Status
KEYS = "cart_"  # what the keys of all acts begin with that add to a cart
ACCOUNT = KT("intent__add__account")


def effect_key(item_id: Any) -> str:
    """The act is the item's: its job may be run again, and the item stays one line in one cart."""
    return f"{KEYS}add:{item_id}"


def move_key(migration_id: Any, item_id: Any) -> str:
    """A migration adds the item to the new account's cart once."""
    return f"{KEYS}move:{migration_id}:{item_id}"


@dataclass(frozen=True)
class Wanted:
    """What is to be added, and the key of that act."""

    key: str
    name: str  # for people
    vendor: str
    product_url: str

    @classmethod
    def of_item(cls, item: QueueItem) -> Self:
        return cls(effect_key(item.pk), str(item), item.vendor.name, item.product_url)


def find_effect(job_id: uuid.UUID) -> Effect | None:
    """The add that the job has begun."""
    return next(iter(_begun(job_id)[:1]), None)


def find_bound_account(job_id: uuid.UUID) -> uuid.UUID | None:
    """The account whose cart the item may be in already, as an attempt of the job was about to
    press its add button: no other may add it before that cart was read."""
    bound = next(iter(_bound(job_id)[:1]), None)
    return uuid.UUID(bound) if bound else None


def bound_account_of(job: OuterRef) -> Subquery:
    """The same for a query over jobs, as text."""
    return Subquery(_bound(job)[:1])


def _bound(job: uuid.UUID | OuterRef) -> QuerySet[Effect, Any]:
    return _begun(job).exclude(status=Status.ABSENT).values_list(ACCOUNT, flat=True)


def _begun(job: uuid.UUID | OuterRef) -> QuerySet[Effect]:
    """One at most. Without an order: by that of the ids, the planner would look through them."""
    return Effect.objects.filter(job=job, key__startswith=KEYS).order_by()


class Add:
    """An add by the step that holds it. What it writes is committed on return.

    All but reading raises LeaseLost when the step is no longer ours.
    """

    def __init__(self, step: ClaimedStep, wanted: Wanted) -> None:
        self._step = step
        self._wanted = wanted
        self._effect = find_effect(step.job_id)

    @property
    def may_be_in_cart(self) -> bool:
        return self._effect is not None and self._effect.status != Status.ABSENT

    @property
    def was_tried(self) -> bool:
        return self._effect is not None

    @property
    def account_id(self) -> uuid.UUID | None:
        """The only account that may go on with it; None: any may."""
        if self._effect is None or not self.may_be_in_cart:
            return None
        return uuid.UUID(self._effect.intent["add"]["account"])

    @property
    def intent(self) -> AddIntent | None:
        """What a former attempt was about to do, by the account that this one has as well."""
        if self._effect is None or not self.may_be_in_cart:
            return None
        return AddIntent.from_data(self._effect.intent["add"])

    def find_output(self) -> dict[str, Any] | None:
        """What the step's output is, once the add is known to have happened."""
        if self._effect is None or self._effect.status != Status.CONFIRMED:
            return None
        result = self._effect.result or {}
        return dict(result) if "line" in result else self._output_by_hand()

    def _output_by_hand(self) -> dict[str, Any]:
        """A person has seen the item in the cart."""
        assert self._effect
        intent = self.intent
        assert intent
        name = next(iter(intent.product.names), self._wanted.name)
        line = CartLine(name, intent.quantity, intent.product.links)
        return describe_done(str(self.account_id), intent.quantity, line, signed_in=False)

    def commit(self, account: VendorAccount, intent: AddIntent | None) -> None:
        """The shop flow's checkpoint. From now on the item may be in this account's cart, and no
        other may add it; None: the cart was read, and it is not there."""
        if intent is None:
            self._settle(DidNotHappen())
            return
        written = self._describe(account, intent)
        effect = self._effect
        if effect is None:
            self._effect, is_new = effects.begin(
                self._step,
                self._wanted.key,
                title=f"Add {intent.quantity} × {self._wanted.name} to the cart of {account.email}",
                intent=written,
            )
            if is_new:
                return
            effect = self._effect
        if effect.status == Status.INTENDED:
            return  # the rest of what has partly arrived: measured from where it began
        if effect.status == Status.UNKNOWN:
            effects.settle(self._step, effect, DidNotHappen())  # not all of it did
        effects.begin_again(self._step, effect, written)

    def confirm(self, output: Mapping[str, Any]) -> None:
        self._settle(Happened(output))

    def leave_to_a_person(self, reason: str) -> None:
        """Nobody can tell whether it is in the cart: the inbox asks."""
        self._settle(CannotTell(reason))

    def _settle(self, finding: effects.Finding) -> None:
        if self._effect is not None and self._effect.status in (Status.INTENDED, Status.UNKNOWN):
            effects.settle(self._step, self._effect, finding)

    def _describe(self, account: VendorAccount, intent: AddIntent) -> dict[str, Any]:
        """For the person who may have to look, and for the attempt that will."""
        return {
            "vendor": self._wanted.vendor,
            "account": account.email,
            "product": self._wanted.product_url,
            "quantity": intent.quantity,
            "cart_before": describe_cart(intent.cart_before),
            "add": {"account": str(account.pk), **intent.to_data()},
        }


def describe_done(
    account: str, quantity: int, line: CartLine, *, signed_in: bool
) -> dict[str, Any]:
    """The output of the step that adds."""
    return {
        "account": account,
        "quantity": quantity,
        "line": {**asdict(line), "links": list(line.links)},
        "signed_in": signed_in,
    }
