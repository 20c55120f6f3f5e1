"""The inbox as a browser shows it."""

# ruff: noqa: F401, F811  fixtures come by import

from types import SimpleNamespace

import pytest
from playwright.async_api import expect

from jobs.models import Status
from jobs.webhooks import endpoints
from tests.jobs.receivers import endpoint_at
from tests.jobs.rows import get_job
from tests.jobs.test_inbox import unknown_payment
from tests.live_site import alice, live_site, page, run

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.browser]


@pytest.fixture(autouse=True)
def hints():
    """Here hints are sent: the browsers' pages live by them."""


async def test_act_that_did_not_happen_and_is_not_needed_is_dropped(page, alice):
    job = await run(unknown_payment, SimpleNamespace(user=alice))
    await page.goto("/inbox/")

    await page.get_by_role("button", name="It did not happen, and is not needed any more").click()

    await expect(page.locator("#nothing")).to_be_visible()
    assert (await run(get_job, job)).status == Status.CANCELLED


async def test_disabled_webhook_is_shown_and_leads_to_its_page(page):
    endpoint = await run(endpoint_at)
    await run(endpoints.disable, endpoint.pk, "It is gone.", for_failing=True)
    await page.goto("/inbox/")

    section = page.locator("#webhooks")
    await expect(section).to_contain_text("It is gone.")
    await expect(page.locator("#nothing")).to_be_hidden()
    await section.get_by_role("link", name="https://erp.example/hooks").click()

    await expect(page).to_have_url(f"/admin/jobs/webhookendpoint/{endpoint.pk}/change/")
