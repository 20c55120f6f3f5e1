"""The buttons of the job page, and the actions of the admin's list."""

# ruff: noqa: F401, F811  fixtures come by import

import re
from html import unescape

import pytest
from django.test import Client
from playwright.async_api import expect

from accounts.models import User
from jobs import steps
from jobs.control import cancel_job
from jobs.errors import BusinessError
from jobs.models import Job, Status
from jobs.runner import runner
from tests.jobs.rows import all_rows, get_job, statuses
from tests.jobs.workflows import submit_toy
from tests.live_site import alice, live_site, page, run

pytestmark = pytest.mark.django_db(transaction=True)
JOBS = "/admin/jobs/job/"


@pytest.fixture(autouse=True)
def hints():
    """Here hints are sent: the browsers' pages live by them."""


@pytest.fixture
def staff(alice):
    client = Client()
    client.force_login(alice)
    return client


def fail(job, becomes=Status.FAILED):
    step = steps.claim_next(["steps"], worker="w")
    steps.fail(step, BusinessError("captcha", "A captcha."), becomes=becomes)
    return job


# --- The job page ----------------------------------------------------------------------------


def button(page, name):
    return page.get_by_role("button", name=name, exact=True)


async def open_page(page, job):
    await page.goto(f"/jobs/{job.pk}/")
    await expect(page.locator("#connection")).to_have_text("Live")


@pytest.mark.browser
async def test_job_is_cancelled_on_its_page_after_a_question(page):
    job = await run(submit_toy, [["a"], ["b"]])
    await open_page(page, job)
    await expect(button(page, "Run again")).to_be_hidden()

    await button(page, "Cancel").click()
    await button(page, "Back").click()
    assert (await run(get_job, job)).status == Status.PENDING
    await button(page, "Cancel").click()
    await page.get_by_label("Reason").fill("Ordered by hand")
    await button(page, "Cancel the job").click()

    await expect(page.locator("#job .badge")).to_have_text("Cancelled")
    await expect(page.locator("#confirm")).to_be_hidden()
    await expect(page.locator("#trouble")).to_contain_text("This was cancelled")
    await expect(page.locator("#trouble")).to_contain_text("Ordered by hand")
    await expect(button(page, "Cancel")).to_be_hidden()


@pytest.mark.browser
async def test_job_runs_again_from_the_step_whose_button_is_pressed(page):
    job = await run(submit_toy, [["a"], ["b"], ["c"]])
    await run(runner.run_ready_steps, ["steps"])
    await open_page(page, job)
    await expect(button(page, "Run again")).to_be_hidden()  # all is done
    again = page.locator(".step", has_text="Step b").get_by_role("button")

    await again.click()
    await expect(page.locator("#confirm")).to_contain_text("“Step b”")
    await page.locator("#confirm").get_by_role("button", name="Run again").click()

    await expect(page.locator("#job .badge")).to_have_text("Pending")
    await expect(again).to_be_hidden()
    assert await run(statuses, job) == {"a": "completed", "b": "ready", "c": "pending"}
    await run(runner.run_ready_steps, ["steps"])
    await expect(page.locator("#job .badge")).to_have_text("Completed")
    await expect(page.locator("#timeline")).to_contain_text("had it run again from “Step b”")


@pytest.mark.browser
async def test_failed_job_offers_what_can_be_run_again_and_no_more(page):
    job = await run(submit_toy, [["a"], ["b"]])
    await run(fail, job)
    await open_page(page, job)

    offers = page.locator(".step").get_by_role("button")
    await expect(offers).to_have_count(1)
    await button(page, "Run again").click()
    await page.locator("#confirm").get_by_role("button", name="Run again").click()

    await expect(page.locator("#job .badge")).to_have_text("Pending")


@pytest.mark.browser
async def test_job_with_a_person_is_cancelled_on_its_page(page):
    job = await run(submit_toy, [["a"], ["b"]])
    await run(fail, job, Status.MANUAL)
    await open_page(page, job)
    await expect(page.locator("#job .badge")).to_have_text("With a person")

    await button(page, "Cancel").click()
    await button(page, "Cancel the job").click()

    await expect(page.locator("#job .badge")).to_have_text("Cancelled")
    await expect(button(page, "Cancel")).to_be_hidden()


@pytest.mark.browser
async def test_page_says_why_it_could_not_be(page):
    job = await run(submit_toy, [["a"]])
    await open_page(page, job)
    await button(page, "Cancel").click()
    await run(runner.run_ready_steps, ["steps"])

    await button(page, "Cancel the job").click()

    trouble = page.locator("#confirm [role=alert]")
    await expect(trouble).to_contain_text("has ended already (completed)")
    await button(page, "Back").click()
    await expect(page.locator("#job .badge")).to_have_text("Completed")


@pytest.mark.browser
async def test_page_of_who_is_logged_out_says_so_in_words_for_people(page):
    job = await run(submit_toy, [["a"]])
    await open_page(page, job)
    await button(page, "Cancel").click()
    await page.context.clear_cookies(name="sessionid")

    await button(page, "Cancel the job").click()

    await expect(page.locator("#confirm [role=alert]")).to_have_text(
        "You are logged out. Log in again in another tab, then repeat this."
    )
    assert (await run(get_job, job)).status == Status.PENDING


# --- The admin's list ------------------------------------------------------------------------


def choose(client, action, jobs, **more):
    return client.post(
        JOBS, {"action": action, "_selected_action": [job.pk for job in jobs], **more}, follow=True
    )


def test_selected_jobs_are_counted_first_and_cancelled_when_confirmed(staff):
    jobs = [submit_toy([["a"]]) for _ in range(3)]
    done = submit_toy([["a"]], priority=1)
    steps.complete(steps.claim_next(["steps"], worker="w"), {}, queues=(), worker="w")
    rows = all_rows()

    html = choose(staff, "cancel_selected", [*jobs[:2], done]).content.decode()

    assert "Cancel: 2 jobs" in html
    assert "1 of the selected jobs is left alone" in html
    assert all_rows() == rows
    html = choose(staff, "cancel_selected", [*jobs[:2], done], confirmed="yes").content.decode()
    assert "Cancelled: 2." in html
    assert [get_job(job).status for job in [*jobs, done]] == [
        "cancelled",
        "cancelled",
        "pending",
        "completed",
    ]


def test_selected_jobs_that_are_with_a_person_are_cancelled(staff):
    manual = fail(submit_toy([["a"]]), Status.MANUAL)

    assert "Cancel: 1 job<" in choose(staff, "cancel_selected", [manual]).content.decode()
    choose(staff, "cancel_selected", [manual], confirmed="yes")

    assert get_job(manual).status == "cancelled"


def test_selected_jobs_are_run_again_when_confirmed(staff):
    failed = fail(submit_toy([["a"], ["b"]]))

    assert "Run again: 1 job<" in choose(staff, "run_selected_again", [failed]).content.decode()
    html = choose(staff, "run_selected_again", [failed], confirmed="yes").content.decode()

    assert "Run again: 1." in html
    assert statuses(failed) == {"a": "ready", "b": "pending"}


def test_confirmation_posts_what_the_list_posted(staff):
    job = submit_toy([["a"]])

    html = choose(staff, "cancel_selected", [job], select_across="1").content.decode()

    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', unescape(html)))
    assert fields["action"] == "cancel_selected"
    assert fields["select_across"] == "1"
    assert fields["_selected_action"] == str(job.pk)


def test_what_changed_since_it_was_confirmed_is_left_alone(staff):
    job = submit_toy([["a"]])
    choose(staff, "cancel_selected", [job])
    cancel_job(job.pk, by="bob")
    rows = all_rows()

    html = choose(staff, "cancel_selected", [job], confirmed="yes").content.decode()

    assert "Cancelled: 0." in html
    assert all_rows() == rows
    assert Job.objects.get().error["message"] == "Cancelled by bob."
