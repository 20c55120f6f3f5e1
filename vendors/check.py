"""Asking for checks: a vendor's data tried on its live shop, an account's log-in tried for real.

Each is a job that holds the account while it is at work, as an add does: an account has one session
at a time. How the jobs are carried out is in `check_workflow.py`.
"""

import uuid
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import F

from accounts.models import User
from jobs.models import Job
from jobs.submit import submit_job
from vendors import pool
from vendors.errors import NoAccountFree, NoUsableAccount, RequestRefused
from vendors.models import Vendor, VendorAccount

VENDOR_CHECK, ACCOUNT_TEST = "vendor_check", "account_test"  # the workflows' names
CHECK_STEP, TEST_STEP = "check_vendor", "log_in"

Variant = str | Mapping[str, str]


def submit_vendor_check(
    vendor: Vendor,
    *,
    account: VendorAccount | None = None,
    product_url: str | None = None,
    variant: Variant | None = None,
    by: User | None = None,
) -> Job:
    """A job that tries the vendor's data, with this account or whichever is free.

    Raises RequestRefused for a product or an account that is not the vendor's, or when it has none.
    """
    _refuse_foreign(vendor, account, product_url)
    return submit_job(
        VENDOR_CHECK,
        {
            "vendor": str(vendor.pk),
            "account": str(account.pk) if account else None,
            "product_url": product_url,
            "variant": variant,
        },
        title=f"Check the vendor data of {vendor}",
        created_by=by,
    )


def submit_account_test(account: VendorAccount, *, by: User | None = None) -> Job:
    """A job that logs in as the account, blocked or not."""
    return submit_job(
        ACCOUNT_TEST,
        {"vendor": str(account.vendor_id), "account": str(account.pk)},
        title=f"Log in as {account} at {account.vendor}",
        created_by=by,
    )


def find_newest(workflow: str, **params: str) -> Job | None:
    """The newest job of a check with these parameters."""
    jobs = Job.objects.filter(workflow=workflow, params__contains=params)
    return jobs.order_by("-pk").first()


def result_of(job: Job) -> dict[str, Any] | None:
    """What the check's only step has found; None before it is done."""
    step = job.steps.get()
    return step.output


def _refuse_foreign(vendor: Vendor, account: VendorAccount | None, product_url: str | None) -> None:
    if product_url and not vendor.site().contains(product_url):
        raise RequestRefused(
            "FOREIGN_PRODUCT_URL",
            f"product_url is not at {vendor.name} ({vendor.domain}). Send the full address of one "
            "of its products.",
        )
    if account is not None and account.vendor_id != vendor.pk:
        raise RequestRefused(
            "FOREIGN_ACCOUNT", f"account_id is no account of {vendor.name}; send one that is."
        )
    if vendor.login_required and not vendor.accounts.exists():
        raise RequestRefused(
            "NO_ACCOUNT", f"{vendor.name} has no account to try its log-in with; add one first."
        )


# ---- holding the account -------------------------------------------------------------------------


def hold_account(vendor: Vendor, job_id: uuid.UUID, only: str | None) -> VendorAccount | None:
    """The account that the job holds from now until it ends; None where the vendor has none and
    needs none. Safe to repeat. The day's limit is for adds and does not count here, and `only` may
    be blocked.

    Raises NoAccountFree or NoUsableAccount.
    """
    with transaction.atomic():
        if held := VendorAccount.objects.filter(held_by=job_id).first():
            return held
        accounts = VendorAccount.objects.filter(vendor=vendor)
        accounts = accounts.filter(pk=only) if only else accounts.filter(is_blocked=False)
        wanted = list(accounts.values_list("pk", flat=True))
        if not wanted:
            if not vendor.login_required and only is None:
                return None
            raise NoUsableAccount(
                f"{vendor.name} has no account that is not blocked. Name one to check with it "
                "nevertheless, or add another."
                if only is None
                else f"The account to check {vendor.name} with was deleted; name another."
            )
        locked = VendorAccount.objects.filter(pk__in=wanted).order_by(
            F("last_used_at").asc(nulls_first=True), "pk"
        )
        rows = [each.pk for each in locked.select_for_update(skip_locked=True, of=("self",))]
        # Asked once more now that they are locked: a rival may have been quicker.
        free = VendorAccount.objects.filter(pk__in=rows).free().values_list("pk", flat=True)
        for pk in rows:
            if pk in set(free):
                VendorAccount.objects.filter(pk=pk).update(held_by=job_id)
                return VendorAccount.objects.get(pk=pk)
    names = "The account is" if only else f"Every account of {vendor.name} is"
    raise NoAccountFree(f"{names} busy; the check goes on when it is free.", pool.BUSY_RECHECK)


def as_timedelta(seconds: float | None) -> timedelta:
    """How long to wait when the shop says 429, with or without saying for how long."""
    return timedelta(seconds=seconds) if seconds else timedelta(minutes=1)
