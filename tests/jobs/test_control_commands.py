"""jobs_cancel, jobs_retry, jobs_resume and jobs_show, as they are called in a terminal."""

from datetime import timedelta
from io import StringIO
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db.models.functions import Now

from jobs import flow, steps, waits
from jobs.errors import BusinessError, TransientError
from jobs.models import Job, Status
from jobs.plans import WaitFor
from jobs.runner import runner
from tests.jobs.rows import all_rows, get_job, statuses
from tests.jobs.workflows import BEHAVIOURS, submit_toy

pytestmark = pytest.mark.django_db


def call(command, *args):
    """What the command printed, and what it complained of."""
    out, err = StringIO(), StringIO()
    try:
        call_command(command, *map(str, args), stdout=out, stderr=err)
    except CommandError as error:
        error.out, error.err = out.getvalue(), err.getvalue()
        raise
    return out.getvalue()


def failed_job(becomes=Status.FAILED, **submission) -> Job:
    job = submit_toy([["a"], ["b"]], **submission)
    step = steps.claim_next(["steps"], worker="w")
    assert step.job_id == job.pk
    steps.fail(step, BusinessError("out_of_stock", "It is sold out."), becomes=becomes)
    return job


def test_jobs_are_cancelled_by_their_ids_with_a_reason():
    one, two, other = (submit_toy([["a"]]) for _ in range(3))

    printed = call("jobs_cancel", one.pk, two.pk, "--reason", "Stocktaking")

    assert "Cancel: 2 jobs." in printed
    assert "2 jobs cancelled." in printed
    assert [get_job(job).status for job in (one, two, other)] == [
        "cancelled",
        "cancelled",
        "pending",
    ]
    assert "on the command line: Stocktaking" in get_job(one).error["message"]


def test_list_of_manual_work_is_cleared():
    manual, pending = failed_job(Status.MANUAL), submit_toy([["a"]])

    printed = call("jobs_cancel", "--status", "manual", "--reason", "Bought by hand", "--yes")

    assert "1 job cancelled." in printed
    assert [get_job(job).status for job in (manual, pending)] == ["cancelled", "pending"]


def test_jobs_are_run_again_by_a_filter():
    failed, other = failed_job(), failed_job(workflow="toy.with_rows")

    assert "1 job run again." in call("jobs_retry", "--workflow", "toy", "--yes")

    assert statuses(failed) == {"a": "ready", "b": "pending"}
    assert get_job(other).status == Status.FAILED


def test_job_is_run_again_from_a_step():
    job = submit_toy([["a"], ["b"]])
    runner.run_ready_steps(["steps"])

    call("jobs_retry", job.pk, "--from-step", "b")

    assert statuses(job) == {"a": "completed", "b": "ready"}


def test_jobs_that_are_with_a_person_go_on():
    manual, failed = failed_job(becomes=Status.MANUAL), failed_job()

    assert "1 job going on." in call("jobs_resume", "--error-code", "out_of_stock", "--yes")

    assert [get_job(job).status for job in (manual, failed)] == ["pending", "failed"]


@pytest.mark.parametrize("command", ["jobs_cancel", "jobs_retry", "jobs_resume"])
def test_dry_run_counts_shows_the_first_and_changes_nothing(command):
    make = {
        "jobs_cancel": lambda: submit_toy([["a"]]),
        "jobs_retry": failed_job,
        "jobs_resume": lambda: failed_job(becomes=Status.MANUAL),
    }[command]
    jobs = [make() for _ in range(7)]
    rows = all_rows()

    printed = call(command, "--workflow", "toy", "--dry-run")

    assert ": 7 jobs." in printed
    assert [str(job.pk) in printed for job in jobs] == [True] * 5 + [False] * 2
    assert "and 2 more" in printed
    assert all_rows() == rows


@pytest.mark.parametrize(
    ("answer", "status"), [("y", "cancelled"), ("", "pending"), (EOFError, "pending")]
)
def test_jobs_of_a_filter_are_asked_for_first(answer, status, monkeypatch):
    job = submit_toy([["a"]])
    asked = []

    def ask(question):
        asked.append(question)
        if answer is EOFError:
            raise EOFError
        return answer

    monkeypatch.setattr("builtins.input", ask)

    if status == "cancelled":
        call("jobs_cancel", "--workflow", "toy")
    else:
        with pytest.raises(CommandError, match=r"Nothing was changed\.") as refusal:
            call("jobs_cancel", "--workflow", "toy")
        assert refusal.value.returncode == 1

    assert asked == ["Cancel 1 job? [y/N] "]
    assert get_job(job).status == status


def test_what_is_skipped_is_said_with_an_exit_code_of_its_own():
    done = submit_toy([["a"]])
    runner.run_ready_steps(["steps"])
    pending = submit_toy([["a"]])

    with pytest.raises(CommandError, match=r"1 job skipped\.") as refusal:
        call("jobs_cancel", done.pk, pending.pk)

    assert refusal.value.returncode == 3
    assert f"{done.pk}: “Toy” has ended already (completed)" in refusal.value.err
    assert "1 job cancelled." in refusal.value.out
    assert [get_job(job).status for job in (done, pending)] == ["completed", "cancelled"]


def test_filter_that_fits_nothing_is_no_error():
    assert "Cancel: 0 jobs." in call("jobs_cancel", "--workflow", "nobody")


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ([], "an empty filter means none"),
        (["--workflow", "toy", uuid4()], "not by both"),
        ([uuid4()], "No job has the id"),
        (["nonsense"], "invalid UUID"),
        (["--status", "completed"], "invalid choice"),
        (["--created-after", "yesterday"], "is no time"),
        (["--created-after", "2026-13-45"], "is no time"),
        (["--param", "vendor"], "is not NAME=VALUE"),
        (["--param", "vendor=[1]"], "must be a text"),
    ],
)
def test_mistake_is_a_sentence_and_changes_nothing(args, sentence):
    submit_toy([["a"]])
    rows = all_rows()

    with pytest.raises(CommandError, match=sentence):
        call("jobs_cancel", "--yes", *args)

    assert all_rows() == rows


def test_filter_of_times_and_parameters():
    job = submit_toy([["a"]])
    Job.objects.update(params={"vendor": "abc", "n": 3})
    day = get_job(job).created_at.date()

    def count(*args):
        return int(call("jobs_cancel", "--dry-run", *args).split()[1])

    assert count("--param", "vendor=abc", "--param", "n=3") == 1
    assert count("--param", 'n="3"') == 0
    assert count("--created-after", day) == 1
    assert count("--created-before", day) == 0
    assert count("--created-before", f"{day + timedelta(days=1)}T00:00Z") == 1


# --- jobs_show -------------------------------------------------------------------------------


def test_job_is_shown_with_its_steps_its_error_and_what_happened():
    job = submit_toy([["a"], ["b", "c"], ["d"]])
    runner.run_ready_steps(["steps"])

    printed = call("jobs_show", job.pk)

    assert "Toy\nCompleted · toy v1 · 100 % · id" in printed
    assert "side by side" in printed
    lines = [line.strip() for line in printed.splitlines()]
    assert any("Completed  Step b b" in line for line in lines)
    kinds = [line.split()[2] for line in lines if line.startswith("+")]
    assert kinds == list(job.events.values_list("kind", flat=True))


def test_step_says_what_it_waits_for():
    job = submit_toy([["asks", "retries", "ready", "runs"]])
    BEHAVIOURS["asks"] = lambda context: WaitFor(
        [waits.approval("buy", "Buy it?", deadline=timedelta(hours=2))], "Asking"
    )
    by_name = {}
    for _ in range(3):
        step = steps.claim_next(["steps"], worker="w:1")
        by_name[step.name] = step
    steps.suspend(by_name["asks"], BEHAVIOURS["asks"](None))
    steps.retry(
        by_name["retries"], TransientError("site_timeout", "No answer."), delay=timedelta(minutes=3)
    )
    steps.report_progress(by_name["ready"], 40, "Looking")

    printed = call("jobs_show", job.pk)

    assert "Waits for an answer: Asking" in printed
    assert "waits for approval: Buy it?, until in 1 h 59 min" in printed
    assert "site_timeout: No answer." in printed
    assert "It is tried again after: No answer." in printed
    assert "goes on in 2 min" in printed
    assert "on w:1: Looking" in printed
    assert "It is the next in the queue; the workers are busy with 1 step." in printed


def test_step_that_a_limit_holds_back_says_which_and_who_has_it():
    flow.set_limit("vendor:shop", concurrency=1, by="olga")
    options = {"a": {"keys": ["vendor:shop"]}}
    running, first, second = (submit_toy([["a"], ["b"]], options=options) for _ in range(3))
    claimed = steps.claim_next(["steps"], worker="w:1")
    assert claimed.job_id == running.pk
    assert steps.claim_next(["steps"], worker="w:2") is None

    printed = call("jobs_show", second.pk)

    assert "1 of 1 steps of the vendor shop are running." in printed
    assert f"runs: Toy ({running.pk})" in printed
    assert "before it, for the same limit: 1" in printed
    assert "before it" not in call("jobs_show", first.pk)
    assert "Earlier steps are not done" not in printed  # they stand right above

    flow.pause("vendor:shop", by="olga", reason="Their site is down.")
    assert "Their site is down." in call("jobs_show", second.pk)


def test_step_without_a_worker_says_what_to_start_and_one_of_an_ended_job_says_nothing():
    job = submit_toy([["a"], ["b"]])
    no_worker = "No worker serves the queue “steps”; start one."

    assert no_worker in call("jobs_show", job.pk)
    steps.fail(
        steps.claim_next(["steps"], worker="w"), BusinessError("out_of_stock", "It is sold out.")
    )

    printed = call("jobs_show", job.pk)
    assert no_worker not in printed
    assert "The job has ended" not in printed


def test_only_the_newest_events_are_shown_where_that_is_asked():
    job = submit_toy([["a"]])
    runner.run_ready_steps(["steps"])

    printed = call("jobs_show", job.pk, "--events", 1)

    assert "job.completed" in printed
    assert "step.completed" not in printed


def test_text_of_strangers_is_shown_as_it_is():
    step = failed_job()
    Job.objects.filter(pk=step.pk).update(title="[red]Pen[/red] :smile:")

    assert "[red]Pen[/red] :smile:" in call("jobs_show", step.pk)


def test_unknown_job_is_said():
    with pytest.raises(CommandError, match="No job has the id"):
        call("jobs_show", uuid4())


def test_archived_job_is_said_with_where_it_is():
    job = failed_job()
    Job.objects.filter(pk=job.pk).update(finished_at=Now() - timedelta(days=31))
    call_command("jobs_archive", stdout=StringIO())

    with pytest.raises(
        CommandError, match=f"is archived; /admin/jobs/archivedjob/{job.pk}/change/"
    ):
        call("jobs_show", job.pk)
