"""The job page says why a step does not start, and what it says stays true."""

# ruff: noqa: F401, F811  fixtures come by import

import pytest
from playwright.async_api import expect

from jobs import flow, steps
from tests.jobs.workflows import submit_toy
from tests.live_site import alice, live_site, page, run

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.browser]

SHOP = "vendor:shop"


@pytest.fixture(autouse=True)
def hints():
    """Here hints are sent: the browsers' pages live by them."""


def submit_at_shop():
    return submit_toy([["a"]], options={"a": {"keys": [SHOP]}})


def claim():
    return steps.claim_next(["steps"], worker="w")


def pause():
    flow.pause(SHOP, by="olga", reason="Their site is down.")
    claim()


async def test_page_says_why_a_step_waits_and_when_that_changes(page):
    job = await run(submit_at_shop)
    await page.goto(f"/jobs/{job.pk}/")
    note = page.locator(".step-note")
    await expect(note).to_have_text("No worker serves the queue “steps”; start one.")

    await run(pause)
    await expect(note).to_have_text("The vendor shop is paused by olga: Their site is down.")
    await expect(page.locator("#timeline")).to_contain_text(
        "Step a has to wait: The vendor shop is paused by olga: Their site is down."
    )

    await run(flow.resume, SHOP, by="olga")
    await expect(note).to_have_text("No worker serves the queue “steps”; start one.")
    await run(claim)
    await expect(note).to_have_text("")


async def test_page_counts_down_to_the_start_that_a_rate_allows(page):
    await run(flow.set_limit, SHOP, rate=1, period_seconds=3600, by="olga")
    await run(submit_at_shop)
    job = await run(submit_at_shop)
    await run(claim)
    await run(claim)

    await page.goto(f"/jobs/{job.pk}/")

    await expect(page.locator(".step-note")).to_contain_text(
        "The vendor shop starts at most 1 step in an hour. Goes on in 59 min"
    )
