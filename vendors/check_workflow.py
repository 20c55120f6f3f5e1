"""The workflows vendor_check and account_test: one step each, in the browser that adds use too.

A check that finds wrong selectors is a check that worked: its job completes, and its result says
what failed. A log-in that does not work fails its job, and sets the account aside if the shop is
the one that says no.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from django.urls import reverse
from django.utils import timezone
from rest_framework import serializers

from accounts import audit
from automation import errors
from automation.guard import NetworkPolicy
from automation.session import BrowserSession, SessionSpec
from automation.shop.check import STEPS, CheckReport, as_data, check_site, log_in
from automation.shop.request import CartLine, CartRequest, Credentials
from automation.site import Site
from jobs.context import StepContext
from jobs.errors import BusinessError, Stopped, TransientError
from jobs.models import FINISHED, Artifact, Job, Status, Step
from jobs.plans import (
    Chain,
    Change,
    Done,
    Outcome,
    Postpone,
    RetryPolicy,
    StepPlan,
    Workflow,
    register_workflow,
    step_handler,
)
from jobs.subjects import Fact, Subject, register_subject
from vendors import browsing, pool
from vendors.check import (
    ACCOUNT_TEST,
    CHECK_STEP,
    TEST_STEP,
    VENDOR_CHECK,
    as_timedelta,
    hold_account,
)
from vendors.errors import NoAccountFree, NoUsableAccount
from vendors.models import Vendor, VendorAccount
from vendors.sessions import SavedSession

LONG_AGO = datetime.min.replace(tzinfo=UTC)  # a cart that has not been read


class VendorCheckParams(serializers.Serializer[Any]):
    vendor = serializers.UUIDField()
    account = serializers.UUIDField(allow_null=True)
    product_url = serializers.CharField(allow_null=True)
    variant = serializers.JSONField(allow_null=True)


class AccountTestParams(serializers.Serializer[Any]):
    vendor = serializers.UUIDField()
    account = serializers.UUIDField()


# No key of the vendor or the account: a check is made while they are paused, to find out why.
def plan_vendor_check(params: Mapping[str, Any]) -> Chain:
    return [[StepPlan(CHECK_STEP, "Try the vendor data", "vendors.check_vendor")]]


def plan_account_test(params: Mapping[str, Any]) -> Chain:
    return [[StepPlan(TEST_STEP, "Log in", "vendors.test_account")]]


def release_at_end(change: Change) -> None:
    if change.job_status in FINISHED and change.step_status != Status.RUNNING:
        pool.release_account(change.job_id)
        pool.wake_waiting_on_commit(change.params["vendor"])


register_workflow(Workflow(VENDOR_CHECK, 1, plan_vendor_check, release_at_end, VendorCheckParams))
register_workflow(Workflow(ACCOUNT_TEST, 1, plan_account_test, release_at_end, AccountTestParams))


@step_handler(
    "vendors.check_vendor",
    time_limit=timedelta(seconds=180),
    retry=RetryPolicy(max_attempts=2),
)
def check_vendor(context: StepContext) -> Outcome:
    vendor = Vendor.objects.get(pk=context.job_params["vendor"])
    account = _hold(vendor, context)
    if isinstance(account, Postpone):
        return account
    url, variant = context.job_params["product_url"], context.job_params["variant"]
    product = CartRequest(url, variant=variant) if url else None
    credentials = _open_credentials(account, context) if account else None
    site, version = vendor.site(), uuid4().hex

    async def check(browser: BrowserSession) -> tuple[CheckReport, Mapping[str, Any]]:
        report = await check_site(browser, site, credentials, product)
        if report.is_signed_in:
            browser.version = version
        return report, await browser.storage_state()

    try:
        report, storage_state = _run(context, check, _spec(site, account, credentials))
    except errors.AutomationError as error:
        raise TransientError(error.code, str(error)) from error
    for finding in report.findings:
        if finding.screenshot:
            name = f"{finding.step}.png"
            context.keep_artifact(Artifact.Kind.SCREENSHOT, name, finding.screenshot)
    if account and report.is_signed_in and _may_replace_session(vendor, account):
        _save_session(account, storage_state, version, report.cart)
    return Done({**as_data(report), "account": account.email if account else None})


# Shops count log-ins: one that failed is not tried once more by itself.
@step_handler("vendors.test_account", time_limit=timedelta(seconds=90), retry=RetryPolicy.never())
def test_account(context: StepContext) -> Outcome:
    vendor = Vendor.objects.get(pk=context.job_params["vendor"])
    if not vendor.login_required or not vendor.login_url:
        raise BusinessError(
            "no_log_in", f"{vendor} has no log-in to test: its vendor data names no log-in page."
        )
    account = _hold(vendor, context)
    if isinstance(account, Postpone):
        return account
    assert account is not None  # one is always named
    credentials = _open_credentials(account, context)
    site, version = vendor.site(), uuid4().hex

    async def test(browser: BrowserSession) -> Mapping[str, Any]:
        await log_in(browser, site, credentials)
        browser.version = version
        return await browser.storage_state()

    try:
        storage_state = _run(context, test, _spec(site, account, credentials))
    except errors.AutomationError as error:
        return _decide_outcome(error, account)
    may_replace = _may_replace_session(vendor, account)
    if may_replace:
        _save_session(account, storage_state, version, None)
    return Done(
        {
            "account": account.email,
            "logged_in": True,
            "session_saved": may_replace,
            "is_blocked": account.is_blocked,
        }
    )


def _hold(vendor: Vendor, context: StepContext) -> VendorAccount | Postpone | None:
    try:
        return hold_account(vendor, context.job_id, context.job_params["account"])
    except NoAccountFree as error:
        return Postpone(error.come_again_in, str(error))
    except NoUsableAccount as error:
        raise BusinessError(error.code, str(error)) from error


def _open_credentials(account: VendorAccount, context: StepContext) -> Credentials:
    audit.note_access(account, job=context.job_id, step=context.claim.name, attempt=context.attempt)
    return Credentials(account.email, account.password)


def _spec(
    site: Site, account: VendorAccount | None, credentials: Credentials | None
) -> SessionSpec:
    """Without the saved session: the shop is seen as a stranger first, and the log-in is real."""
    return SessionSpec(
        key=str(account.pk) if account else f"check {site.domain} {uuid4().hex}",
        network=NetworkPolicy(
            domains=(site.domain, *site.allowed_domains), allow_private=site.allow_private_network
        ),
        secrets=(credentials.password,) if credentials else (),
    )


def _run(context: StepContext, flow: Any, spec: SessionSpec) -> Any:
    """What the flow returns. Raises the errors of `automation.errors`, with the last one's picture
    kept, and Stopped."""
    try:
        return browsing.get_browser_host().run(
            flow,
            spec,
            timeout=context.time_limit,
            stop=context.stop,
            on_phase=_ProgressReporter(context),
        )
    except errors.StepStopped as error:
        raise Stopped from error
    except errors.AutomationError as error:
        if error.evidence and error.evidence.screenshot:
            picture = error.evidence.screenshot
            context.keep_artifact(Artifact.Kind.SCREENSHOT, "screenshot.png", picture)
        raise


def _decide_outcome(error: errors.AutomationError, account: VendorAccount) -> Outcome:
    sentence = str(error)
    match error:
        case errors.RateLimited():
            return Postpone(as_timedelta(error.retry_after_seconds), sentence)
        case errors.AccountBlocked() | errors.WrongCredentials():
            pool.set_aside(account, sentence)
        case errors.PageChanged():
            sentence += " POST /api/admin/vendors/{id}/check tells which other selectors are wrong."
    raise BusinessError(error.code, sentence) from error


def _may_replace_session(vendor: Vendor, account: VendorAccount) -> bool:
    """Where the cart is the session's, a new session would be without what stands in it."""
    return vendor.cart_scope != Vendor.CartScope.SESSION or account.session_data is None


def _save_session(
    account: VendorAccount,
    storage_state: Mapping[str, Any],
    version: str,
    cart: tuple[CartLine, ...] | None,
) -> None:
    read_at = LONG_AGO if cart is None else timezone.now()
    SavedSession(storage_state, version, cart or (), read_at).save(account)


class _ProgressReporter:
    """The step's progress by the parts of the check; what the flow says in between is a phase of
    the part that it belongs to."""

    def __init__(self, context: StepContext) -> None:
        self._context = context
        self._shares = {
            phase: round(100 * place / len(STEPS)) for place, phase in enumerate(STEPS.values())
        }
        self._percent = 0

    def __call__(self, phase: str) -> None:
        self._percent = max(self._percent, self._shares.get(phase, 0))
        self._context.progress(self._percent, phase)


# ---- what their pages say ------------------------------------------------------------------------

SHOWN = {"failed": "Failed", "doubtful": "Could not be seen", "passed": "Fits"}


def describe_check(job_id: UUID) -> Subject | None:
    job = Job.objects.filter(pk=job_id).first()
    vendor = Vendor.objects.filter(pk=job.params["vendor"]).first() if job else None
    if job is None or vendor is None:
        return None
    facts = [Fact("Vendor", vendor.name, _page_of(vendor))]
    if (account_id := job.params["account"]) and (account := pool.find_account(account_id)):
        facts.append(Fact("Account", account.email, _page_of(account)))
    if url := job.params.get("product_url"):
        facts.append(Fact("Product", url, url))
    output = Step.objects.filter(job=job_id).values_list("output", flat=True).first()
    findings = (output or {}).get("findings", ())
    facts += [_fact_of(each) for each in findings if each["outcome"] != "skipped"]
    return Subject(facts, decide_advice(output))


def _page_of(row: Vendor | VendorAccount) -> str:
    return reverse(f"admin:vendors_{row._meta.model_name}_change", args=[row.pk])


def _fact_of(finding: Mapping[str, Any]) -> Fact:
    data = f" ({finding['key']}: {finding['selector']})" if finding["selector"] else ""
    sentence = f"{SHOWN[finding['outcome']]}: {finding['message']}{data}"
    return Fact(finding["step"].replace("_", " ").capitalize(), sentence)


def decide_advice(output: Mapping[str, Any] | None) -> str:
    if not output or output.get("passed") is not False:
        return ""
    keys = ", ".join(output["failed_keys"])
    return (
        f"Correct {keys or 'what failed'} on the vendor's page by the screenshots, and check again."
    )


for _workflow in (VENDOR_CHECK, ACCOUNT_TEST):
    register_subject(_workflow, describe_check)
