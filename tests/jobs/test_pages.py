"""The pages of jobs: as they are served, and as they live in a browser."""

# ruff: noqa: F401, F811  fixtures come by import

import asyncio
import json
import re
from datetime import timedelta
from html import unescape

import pytest
from django.contrib.sessions.models import Session
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage
from django.test import Client
from django.utils import timezone
from playwright.async_api import expect

from accounts.models import User
from jobs import consumers, listing, steps
from jobs.errors import BusinessError, TransientError
from jobs.models import Artifact
from jobs.runner import runner
from tests.jobs import workflows
from tests.jobs.rows import let_waits_end
from tests.jobs.workflows import submit_toy
from tests.live_site import alice, live_site, page, run

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def hints():
    """Here hints are sent: the browsers' pages live by them."""


@pytest.fixture
def staff(alice):
    client = Client()
    client.force_login(alice)
    return client


@pytest.fixture(autouse=True)
def _artifacts_folder(monkeypatch, tmp_path):
    field = Artifact._meta.get_field("file")
    monkeypatch.setattr(field, "storage", FileSystemStorage(tmp_path))


def embedded(response, name):
    """The data that a page hands to its module."""
    match = re.search(
        rf'<script id="{name}" type="application/json">(.*?)</script>', response.content.decode()
    )
    return json.loads(match[1])


def keep(job, kind, content):
    return Artifact.objects.create(
        job=job,
        step=job.steps.first(),
        attempt=2,
        kind=kind,
        file=ContentFile(content, "file"),
        expires_at=timezone.now() + timedelta(days=1),
    )


# --- Served ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/jobs/", "/jobs/{job}/", "/jobs/{job}/artifacts/{artifact}"])
def test_pages_are_for_staff(path):
    job = submit_toy([["a"]])
    artifact = keep(job, Artifact.Kind.PAGE, b"")
    url = path.format(job=job.pk, artifact=artifact.pk)
    bob = Client()
    bob.force_login(User.objects.create_user("bob"))

    for client in (Client(), bob):
        response = client.get(url)
        assert response.status_code == 302
        assert response.url == f"/admin/login/?next={url}"


def test_front_page_leads_to_the_queue():
    response = Client().get("/")

    assert (response.status_code, response.url) == (302, "/queue/")


def test_page_comes_with_the_job_as_it_is(staff):
    job = submit_toy([["a"], ["b"]])
    runner.run_ready_steps(["steps"])

    response = staff.get(f"/jobs/{job.pk}/")

    snapshot = embedded(response, "snapshot")
    assert snapshot["number"] == 6
    assert snapshot["job"]["status"] == "completed"
    assert [step["status"] for step in snapshot["steps"]] == ["completed", "completed"]


def test_unknown_job_is_not_found(staff):
    assert staff.get("/jobs/01890000-0000-7000-8000-000000000000/").status_code == 404


def test_text_of_strangers_stays_text(staff):
    job = submit_toy([["a"]])
    steps.fail(steps.claim_next(["steps"], worker="w"), BusinessError("x", "</script><b>"))

    response = staff.get(f"/jobs/{job.pk}/")

    assert "</script><b>" not in response.content.decode()
    assert embedded(response, "snapshot")["job"]["error"]["message"] == "</script><b>"


def test_number_of_queries_does_not_grow_with_the_job(staff, django_assert_max_num_queries):
    small, large = submit_toy([["a"]]), submit_toy([[f"s{n}" for n in range(20)], ["z"]])
    runner.run_ready_steps(["steps"])
    for _ in range(5):
        keep(large, Artifact.Kind.PAGE, b"")

    for job in (small, large):
        # Two for the session, one to find the job; job, steps, open waits, events, artifacts.
        with django_assert_max_num_queries(8):
            staff.get(f"/jobs/{job.pk}/")


def test_number_of_queries_does_not_grow_with_the_list(staff, django_assert_max_num_queries):
    for _ in range(10):
        submit_toy([["a"]])

    with django_assert_max_num_queries(4):  # two for the session; rows, counts
        response = staff.get("/jobs/")

    assert len(embedded(response, "list")["rows"]) == 10


def test_list_is_paged_by_its_rows(staff, monkeypatch):
    monkeypatch.setattr(listing, "PAGE_SIZE", 2)
    ids = [str(submit_toy([["a"]]).pk) for _ in range(5)][::-1]

    def shown(query):
        return [row["id"] for row in embedded(staff.get(f"/jobs/{query}"), "list")["rows"]]

    first = staff.get("/jobs/")
    older = f"?before={ids[1]}"
    assert shown("") == ids[:2]
    assert f'href="{older}"' in unescape(first.content.decode())
    assert "Newer" not in first.content.decode()
    assert shown(older) == ids[2:4]
    assert shown(f"?before={ids[3]}") == ids[4:]
    assert shown(f"?after={ids[4]}") == ids[2:4]
    assert shown(f"?after={ids[2]}") == ids[:2]
    assert shown("?before=nonsense&status=nonsense") == ids[:2]
    assert shown(f"?before={ids[4]}") == []


def test_list_can_be_of_one_status(staff):
    submit_toy([["a"]])
    runner.run_ready_steps(["steps"])
    pending = submit_toy([["a"]])

    listed = embedded(staff.get("/jobs/?status=pending"), "list")

    assert [row["id"] for row in listed["rows"]] == [str(pending.pk)]
    assert listed["stats"]["completed"] == 1


def test_counting_stops_where_it_would_become_slow(staff, monkeypatch):
    monkeypatch.setattr(listing, "MOST_COUNTED", 3)
    for _ in range(5):
        submit_toy([["a"]])

    assert embedded(staff.get("/jobs/"), "list")["stats"]["pending"] == 3


def test_screenshot_is_shown(staff):
    job = submit_toy([["a"]])
    artifact = keep(job, Artifact.Kind.SCREENSHOT, b"\x89PNG")

    response = staff.get(f"/jobs/{job.pk}/artifacts/{artifact.pk}")

    assert response.content == b"\x89PNG"
    assert response["Content-Type"] == "image/png"
    assert response["Content-Disposition"] == 'inline; filename="a-attempt-2-screenshot.png"'


@pytest.mark.parametrize("kind", ["page", "console", "network"])
def test_other_files_are_plain_text_to_be_saved(staff, kind):
    job = submit_toy([["a"]])
    artifact = keep(job, kind, b"<script>alert(1)</script>")

    response = staff.get(f"/jobs/{job.pk}/artifacts/{artifact.pk}")

    assert response.content == b"<script>alert(1)</script>"
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert response["Content-Disposition"] == f'attachment; filename="a-attempt-2-{kind}.txt"'
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Content-Security-Policy"] == "default-src 'none'; sandbox"


def test_file_is_found_only_under_its_own_job(staff):
    job, other = submit_toy([["a"]]), submit_toy([["a"]])
    artifact = keep(job, Artifact.Kind.PAGE, b"")

    assert staff.get(f"/jobs/{other.pk}/artifacts/{artifact.pk}").status_code == 404


def test_file_that_was_deleted_is_not_found(staff):
    job = submit_toy([["a"]])
    artifact = keep(job, Artifact.Kind.PAGE, b"")
    artifact.file.storage.delete(artifact.file.name)

    assert staff.get(f"/jobs/{job.pk}/artifacts/{artifact.pk}").status_code == 404


# --- Live ------------------------------------------------------------------------------------


def step_row(page, title):
    return page.locator(".step", has_text=title)


async def open_page(page, job):
    """Opens the job's page and marks it, so that a reload would show."""
    await page.goto(f"/jobs/{job.pk}/")
    await expect(page.locator("#connection")).to_have_text("Live")
    await page.evaluate("window.isTheSamePage = true")


async def expect_completed(page):
    await expect(page.locator("#job .badge")).to_have_text("Completed")
    await expect(page.locator("#job [role=progressbar]")).to_have_attribute("aria-valuenow", "100")
    assert await page.evaluate("window.isTheSamePage")


@pytest.mark.browser
async def test_page_shows_each_change_without_a_reload(page):
    job = await run(submit_toy, [["a"], ["b", "c"]])
    await open_page(page, job)
    await expect(page.locator("#job .badge")).to_have_text("Pending")
    await expect(page.locator(".step")).to_have_count(3)
    await expect(page.locator("#stages")).to_contain_text("Side by side, 0 of 2 done")

    step = await run(steps.claim_next, ["steps"], worker="w")
    await expect(step_row(page, "Step a")).to_have_attribute("data-status", "running")
    await run(steps.report_progress, step, 40, "Opening the product page")
    await expect(step_row(page, "Step a")).to_contain_text("Opening the product page")
    await expect(step_row(page, "Step a").get_by_role("progressbar")).to_have_attribute(
        "aria-valuenow", "40"
    )
    await run(steps.complete, step, {}, queues=(), worker="w")
    await run(runner.run_ready_steps, ["steps"])

    await expect_completed(page)
    await expect(page.locator("#stages")).to_contain_text("Side by side, 2 of 2 done")
    await expect(page.locator(".event").first).to_contain_text("The job is completed")
    await expect(page.locator(".event").last).to_contain_text("The job was created")


@pytest.mark.browser
async def test_retry_is_counted_down_and_its_evidence_is_there(page):
    job = await run(submit_toy, [["a"]])

    def fail_once(context):
        if context.attempt > 1:
            return workflows.Done({})
        context.keep_artifact(Artifact.Kind.SCREENSHOT, "screenshot.png", PIXEL)
        context.keep_artifact(Artifact.Kind.PAGE, "page.html", b"<p>")
        raise TransientError("page_changed", "The button is gone.")

    workflows.BEHAVIOURS["a"] = fail_once
    await open_page(page, job)

    await run(runner.run_ready_steps, ["steps"])

    row = step_row(page, "Step a")
    await expect(row).to_contain_text("The button is gone.")
    await expect(row).to_contain_text("attempt 1 of 3")
    await expect(row).to_contain_text(re.compile(r"Tries again in \d s"))
    await expect(page.locator("#trouble")).to_be_hidden()
    await page.get_by_role("button", name="Screenshot: Step a, attempt 1").click()
    await expect(page.get_by_role("dialog")).to_be_visible()
    await page.keyboard.press("Escape")
    async with page.expect_download() as download:
        await page.get_by_role("link", name="Page", exact=True).click()
    assert (await download.value).suggested_filename == "a-attempt-1-page.txt"

    await run(let_waits_end)
    await run(steps.make_ready, job.pk)
    await run(runner.run_ready_steps, ["steps"])
    await expect_completed(page)


PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c63f8ffff3f0005fe02fea72d99210000000049454e44ae426082"
)


@pytest.mark.browser
async def test_page_catches_up_when_the_server_comes_back(page, live_site):
    job = await run(submit_toy, [["a"], ["b"]])
    await open_page(page, job)

    await asyncio.to_thread(live_site.stop)
    await expect(page.locator("#connection")).to_contain_text("Reconnecting")
    await run(runner.run_ready_steps, ["steps"])
    await expect(page.locator("#job .badge")).to_have_text("Pending")
    await asyncio.to_thread(live_site.start)

    await expect(page.locator("#connection")).to_have_text("Live", timeout=20_000)
    await expect_completed(page)
    await expect(page.locator(".event")).to_have_count(6)


@pytest.mark.browser
async def test_page_opened_in_the_middle_is_right(page):
    job = await run(submit_toy, [["a"], ["b"]])
    step = await run(steps.claim_next, ["steps"], worker="w")
    step = await run(steps.complete, step, {}, queues=["steps"], worker="w")
    await run(steps.report_progress, step, 50, "Halfway")

    await open_page(page, job)
    await expect(step_row(page, "Step a")).to_have_attribute("data-status", "completed")
    await expect(step_row(page, "Step b")).to_contain_text("Halfway")
    await expect(page.locator("#job [role=progressbar]")).to_have_attribute("aria-valuenow", "75")

    await run(steps.complete, step, {}, queues=(), worker="w")
    await expect_completed(page)


@pytest.mark.browser
async def test_page_opened_after_the_end_is_right(page):
    job = await run(submit_toy, [["a"], ["b"]])
    step = await run(steps.claim_next, ["steps"], worker="w")
    await run(steps.fail, step, BusinessError("out_of_stock", "The shop has none left."))

    await open_page(page, job)

    await expect(page.locator("#job .badge")).to_have_text("Failed")
    await expect(page.locator("#trouble")).to_contain_text("The shop has none left.")
    await expect(page.locator("#trouble")).to_contain_text("out_of_stock")
    await expect(step_row(page, "Step b")).to_contain_text("Not needed any more")


@pytest.mark.browser
async def test_page_whose_session_ended_says_so(page, monkeypatch):
    monkeypatch.setattr(consumers, "TICK_SECONDS", 0.2)
    job = await run(submit_toy, [["a"]])
    await open_page(page, job)

    await run(Session.objects.all().delete)

    await expect(page.locator("#connection")).to_have_text("Logged out")
    await page.get_by_role("link", name="Log in again").click()
    await expect(page).to_have_url(re.compile(rf"/admin/login/\?next=%2Fjobs%2F{job.pk}%2F"))


@pytest.mark.browser
async def test_list_lives(page):
    first = await run(submit_toy, [["a"]])
    await page.goto("/jobs/")
    await expect(page.locator("#connection")).to_have_text("Live")
    await expect(page.locator("#rows tr")).to_have_count(1)

    second = await run(submit_toy, [["a"], ["b"]])
    await expect(page.locator("#rows tr")).to_have_count(2)
    assert await page.locator("#rows tr").first.get_attribute("data-key") == str(second.pk)
    await run(runner.run_ready_steps, ["steps"])

    await expect(page.locator("#rows .badge")).to_have_text(["Completed", "Completed"])
    await expect(page.locator("[data-stat=completed]")).to_have_text("2")
    await page.locator(f"[data-key='{first.pk}'] a").click()
    await expect(page).to_have_url(re.compile(f"/jobs/{first.pk}/"))


@pytest.mark.browser
@pytest.mark.parametrize("path", ["/jobs/", "/jobs/{job}/"])
async def test_pages_fit_a_phone(page, path):
    job = await run(submit_toy, [["a" * 80], ["b"]])
    step = await run(steps.claim_next, ["steps"], worker="w")
    await run(steps.fail, step, BusinessError("x" * 30, "W" * 200))
    await page.set_viewport_size({"width": 390, "height": 844})

    await page.goto(path.format(job=job.pk))
    await expect(page.locator("#connection")).to_have_text("Live")

    assert await page.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.browser
async def test_client_asks_again_after_a_gap_and_passes_over_what_it_has(page):
    job = await run(submit_toy, [["a"]])
    await open_page(page, job)

    results = await page.evaluate(
        """async () => {
            const { apply, fromSnapshot } = await import("/static/jobs/job_state.js");
            const event = (number, progress) => ({
                number, kind: "step.progress", step: "s", message: "",
                data: { job: { progress }, step: { progress } },
            });
            const events = (...list) => ({ type: "events", events: list, artifacts: [] });
            const start = fromSnapshot({
                number: 5, job: { progress: 0, status: "running" },
                steps: [{ id: "s", progress: 0, title: "S" }],
                events: [], artifacts: [], subject: null,
            });
            const tell = ({ state, hasGap }) =>
                [state.number, state.job.progress, state.steps.get("s").progress, hasGap];
            return [
                tell(apply(start, events(event(6, 10), event(7, 20)))),
                tell(apply(start, events(event(4, 99), event(5, 99), event(6, 10)))),
                tell(apply(start, events(event(6, 10), event(8, 99)))),
                tell(apply(start, { type: "ping", number: 5 })),
                tell(apply(start, { type: "ping", number: 9 })),
                tell(apply(start, { type: "of a later version" })),
            ];
        }"""
    )

    assert results == [
        [7, 20, 20, False],
        [6, 10, 10, False],
        [6, 10, 10, True],
        [5, 0, 0, False],
        [5, 0, 0, True],
        [5, 0, 0, False],
    ]
