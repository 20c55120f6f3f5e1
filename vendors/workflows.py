"""The cart_add workflow: reserve an account, add to the cart in a browser, see it in the cart.

`add_to_cart` is one step because "it is in the cart" is one fact: every attempt ends by reading the
cart, and a second attempt begins by reading it. The add itself is an effect (`adding.py`).
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import uuid4

from django.core.exceptions import ValidationError
from django.utils import timezone
from rest_framework import serializers

from accounts import audit
from automation import errors
from automation.guard import NetworkPolicy
from automation.session import BrowserSession, SessionSpec
from automation.shop import flow
from automation.shop.request import AddIntent, AddResult, CartRequest, Credentials
from automation.site import Site
from jobs.context import StepContext
from jobs.effects import UnknownOutcome
from jobs.errors import Becomes, BusinessError, TransientError
from jobs.flow import register_names, register_waker
from jobs.keys import set_key
from jobs.models import Step
from jobs.plans import (
    Chain,
    Done,
    Outcome,
    Postpone,
    StepPlan,
    Workflow,
    register_workflow,
    step_handler,
)
from jobs.why import register_reason
from vendors import alerts, pool
from vendors.adding import Add, Wanted, describe_done, effect_key
from vendors.browsing import PhaseReporter, decide_outcome, get_browser_host, keep_evidence
from vendors.cart_lines import mark_left
from vendors.cart_queue import CART_ADD, follow_job
from vendors.errors import NoAccountFree, NoUsableAccount
from vendors.models import QueueItem, Vendor, VendorAccount
from vendors.sessions import SavedSession


def plan_cart_add(params: Mapping[str, Any]) -> Chain:
    keys = (f"vendor:{params['vendor']}",)
    return [
        [StepPlan(pool.RESERVE, "Reserve an account", "vendors.reserve_account", keys=keys)],
        [
            StepPlan(
                pool.ADD,
                "Add to the cart",
                "vendors.add_to_cart",
                weight=9,
                keys=keys,
                effects=(effect_key(params["queue_item"]),),
            )
        ],
    ]


def _find_vendor_name(pk: str) -> str | None:
    try:
        return Vendor.objects.filter(pk=pk).values_list("name", flat=True).first()
    except ValidationError:  # a person may have typed anything
        return None


def _find_account_name(pk: str) -> str | None:
    account = pool.find_account(pk)
    return account.email if account else None


def _find_what_it_waits_for(step: Step) -> str | None:
    """As it is now; None for one that waits for something else than an account."""
    need = pool.find_need(step.job_id)
    if need is None:
        return None
    standings = pool.find_standings(need.vendor, need.only)
    return pool.describe_wait(need.vendor, standings, need.only) if standings else None


register_names("vendor", _find_vendor_name)
register_names(pool.ACCOUNT, _find_account_name)
register_waker(pool.ACCOUNT, pool.wake_for_account)
for _handler in ("vendors.reserve_account", "vendors.add_to_cart"):
    register_reason(_handler, _find_what_it_waits_for)


class CartAddParams(serializers.Serializer[Any]):
    queue_item = serializers.UUIDField()
    vendor = serializers.UUIDField()


register_workflow(Workflow(CART_ADD, 1, plan_cart_add, follow_job, CartAddParams))


@step_handler("vendors.reserve_account", time_limit=timedelta(seconds=10))
def reserve_account(context: StepContext) -> Outcome:
    item = _item(context)
    add = Add(context.claim, Wanted.of_item(item))
    if done := find_output(add):
        return Done({"account": done["account"]})
    account = _reserve(item, context, add)
    if isinstance(account, Postpone):
        return account
    set_key(context.claim, pool.ACCOUNT, str(account.pk), of=pool.ADD)
    return Done({"account": str(account.pk)})


# Version 1 kept what it was about to do in the step's checkpoint.
@step_handler("vendors.add_to_cart", time_limit=timedelta(seconds=120), version=2)
def add_to_cart(context: StepContext) -> Outcome:
    item = _item(context)
    add = Add(context.claim, Wanted.of_item(item))
    if done := find_output(add):
        return Done(done)
    account = _reserve(item, context, add)
    if isinstance(account, Postpone):
        return account
    request = CartRequest(
        product_url=item.product_url,
        quantity=item.quantity,
        variant=item.product_data.get("variant"),
        product_name=item.product_name,
    )
    return carry_out(context, item.vendor.site(), account, request, add)


def carry_out(
    context: StepContext, site: Site, account: VendorAccount, request: CartRequest, add: Add
) -> Outcome:
    """Adds in the cart of the account that the job holds, or finds that it is there already."""
    if set_key(context.claim, pool.ACCOUNT, str(account.pk), of=pool.ADD):
        # It has another account than the one by whose limits it was claimed.
        return Postpone(timedelta(0), "It has its account, and starts by that account's limits.")
    audit.note_access(account, job=context.job_id, step=context.claim.name, attempt=context.attempt)
    session = SavedSession.of(account)
    credentials = Credentials(account.email, account.password)
    version = uuid4().hex

    async def play(browser: BrowserSession) -> tuple[AddResult, Mapping[str, Any]]:
        async def checkpoint(intent: AddIntent | None) -> None:
            await browser.call(add.commit, account, intent)

        result = await flow.add_to_cart(
            browser,
            site,
            credentials,
            request,
            known_cart=session.known_cart if session and not add.was_tried else None,
            intent=add.intent,
            checkpoint=checkpoint,
        )
        browser.version = version
        return result, await browser.storage_state()

    try:
        result, storage_state = get_browser_host().run(
            play,
            _spec(site, account, session, credentials),
            timeout=context.time_limit,
            stop=context.stop,
            on_phase=PhaseReporter(context),
        )
    except errors.AutomationError as error:
        keep_evidence(context, error)
        if session and add.was_tried:
            session.forget_cart(account)  # some of the add may be in it
        if session and site.cart_scope == "account" and isinstance(error, errors.AccountBlocked):
            mark_left(account, session)  # before the block has the session forgotten
        return _decide_outcome(error, context, account, add)
    # Before the add is settled: a later item of the account measures by the cart that is saved.
    SavedSession(storage_state, version, result.cart, timezone.now()).save(account)
    output = describe_done(
        str(account.pk), request.quantity, result.line, signed_in=result.signed_in
    )
    add.confirm(output)
    return Done(output)


def find_output(add: Add) -> dict[str, Any] | None:
    """The add was confirmed, by an attempt or by a person: there is nothing left to do."""
    output = add.find_output()
    if output and pool.find_account(output["account"]) is None:
        raise BusinessError(
            "cart_out_of_reach",
            "The item was added to the cart of an account that was deleted. Look into its cart by "
            "hand before the item is asked for again.",
            Becomes.MANUAL,
        )
    return output


def _item(context: StepContext) -> QueueItem:
    items = QueueItem.objects.select_related("vendor")
    return items.get(pk=context.job_params["queue_item"])


def _reserve(item: QueueItem, context: StepContext, add: Add) -> VendorAccount | Postpone:
    alerts.check_automation(item.vendor, bound=add.account_id)
    try:
        return pool.reserve_account(item.vendor, context.job_id, only=add.account_id)
    except NoAccountFree as error:
        # What it comes again for is not a start of the account that it had.
        set_key(context.claim, pool.ACCOUNT, None, of=pool.ADD)
        return Postpone(error.come_again_in, str(error))
    except NoUsableAccount as error:
        add.leave_to_a_person(str(error))
        raise BusinessError(error.code, str(error), Becomes.MANUAL) from error


def _spec(
    site: Site, account: VendorAccount, session: SavedSession | None, credentials: Credentials
) -> SessionSpec:
    return SessionSpec(
        key=str(account.pk),
        network=NetworkPolicy(
            domains=(site.domain, *site.allowed_domains), allow_private=site.allow_private_network
        ),
        storage_state=dict(session.storage_state) if session else None,
        version=session.version if session else None,
        secrets=(credentials.password,),
    )


def _decide_outcome(
    error: errors.AutomationError, context: StepContext, account: VendorAccount, add: Add
) -> Outcome:
    """What becomes of the item after the site, the network or the browser said no.

    Returns a Postpone, or raises what the runner acts on.
    """
    sentence = str(error)
    match error:
        case errors.AccountBlocked() | errors.WrongCredentials():
            # The next attempt reserves another account, or finds that there is none, or that the
            # item may be in this one's cart.
            pool.set_aside(account, sentence)
            set_key(context.claim, pool.ACCOUNT, None, of=pool.ADD)
            raise TransientError(error.code, sentence) from error
        case errors.CartUnclear():
            add.leave_to_a_person(sentence)
            raise UnknownOutcome(
                f"{sentence} Say in the inbox whether the item is there."
            ) from error
    return decide_outcome(error)
