"""The voucher workflows: their plans. What the steps do is in `payments/steps`.

`voucher_purchase` is the documents' one: check, sign in, probe the limit with all links at once,
then pay, wait and redeem for each transaction in turn. `voucher_redeem` redeems a voucher later.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from rest_framework import serializers

from jobs.plans import Chain, StepPlan, Workflow, register_workflow
from payments.following import follow_job
from payments.purchases import VOUCHER_PURCHASE, VOUCHER_REDEEM

# Registered by being imported.
from payments.steps import closing, inventory, issuing, links, payment, redemption, signing_in

__all__ = ["closing", "inventory", "issuing", "links", "payment", "redemption", "signing_in"]

# payment-automation-realtime: 20 % when the links are made, then 20 + 80 · done / N. So each
# transaction weighs 80 and all that comes before weighs 20 for each; the last step gives one of its
# points to the summary.
BEFORE, LINK, PAY, ISSUE, REDEEM, SUMMARY = 4, 4, 40, 20, 20, 1


def plan_voucher_purchase(params: Mapping[str, Any]) -> Chain:
    count = params["qty"]
    portal, redeemer = (f"account:{params[f'{name}_account']}" for name in ("portal", "redeemer"))
    before = BEFORE * count
    return [
        [_step("inventory_check", "Check the inventory", weight=before)],
        [
            _step("gyftr_login", "Sign in to the voucher portal", weight=before, keys=(portal,)),
            _step("amazon_login", "Sign in to the redeeming shop", weight=before, keys=(redeemer,)),
        ],
        [_step("availability_check", "Check the availability", weight=before, keys=(portal,))],
        [
            _step("generate_payment_link", f"Make payment link {i}", i, LINK, keys=(portal,))
            for i in range(1, count + 1)
        ],
        *([step] for i in range(1, count + 1) for step in _plan_transaction(i, params)),
        [_step("summary", "Sum up", weight=SUMMARY)],
    ]


def _plan_transaction(i: int, params: Mapping[str, Any]) -> Iterator[StepPlan]:
    portal, redeemer, card = (
        f"account:{params['portal_account']}",
        f"account:{params['redeemer_account']}",
        f"card:{params['card']}",
    )
    is_last = i == params["qty"]
    yield _step("process_payment", f"Pay by link {i}", i, PAY, keys=(card,))
    yield _step("wait_for_vouchers", f"Wait for voucher {i}", i, ISSUE, keys=(portal,))
    weight = REDEEM - SUMMARY if is_last else REDEEM
    yield _step("redeem_amazon_vouchers", f"Redeem voucher {i}", i, weight, keys=(redeemer,))


def _step(
    name: str, title: str, index: int = 0, weight: int = 1, keys: tuple[str, ...] = ()
) -> StepPlan:
    return StepPlan(
        f"{name}_{index}" if index else name,
        title,
        f"payments.{name}",
        params={"index": index} if index else {},
        weight=weight,
        keys=keys,
    )


def plan_voucher_redeem(params: Mapping[str, Any]) -> Chain:
    keys = (f"account:{params['redeemer_account']}",)
    return [[_step("redeem_voucher", "Redeem the voucher", keys=keys)]]


class VoucherPurchaseParams(serializers.Serializer[Any]):
    purchase = serializers.UUIDField()
    qty = serializers.IntegerField(min_value=1)
    amount = serializers.DecimalField(max_digits=12, decimal_places=2)
    currency = serializers.CharField(max_length=3)
    card = serializers.UUIDField()
    portal_account = serializers.UUIDField()
    redeemer_account = serializers.UUIDField()


class VoucherRedeemParams(serializers.Serializer[Any]):
    voucher = serializers.UUIDField()
    purchase = serializers.UUIDField()
    redeemer_account = serializers.UUIDField()


register_workflow(
    Workflow(VOUCHER_PURCHASE, 1, plan_voucher_purchase, follow_job, VoucherPurchaseParams)
)
register_workflow(Workflow(VOUCHER_REDEEM, 1, plan_voucher_redeem, params=VoucherRedeemParams))
