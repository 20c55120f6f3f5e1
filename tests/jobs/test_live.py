import threading

import pytest
from channels.layers import channel_layers, get_channel_layer
from django.db import transaction

from jobs import live
from jobs.live import Messenger
from tests.waiting import wait_until


@pytest.fixture(autouse=True)
def hints():
    """Here hints are sent, in place of being noted: they are the subject."""


@pytest.fixture
def messenger(monkeypatch):
    messenger = Messenger()
    monkeypatch.setattr(live, "messenger", messenger)
    return messenger


@pytest.fixture
def sent(monkeypatch):
    """What would have gone to the broker: a queue and a number of calls a message."""
    sent = []
    monkeypatch.setattr(live, "send_wakes", lambda queue, count: sent.append((queue, count)))
    return sent


@pytest.fixture
def pages(monkeypatch):
    """The jobs that pages would have been told of, a list a message."""
    pages = []

    async def tell(job_ids):
        pages.append(job_ids)

    monkeypatch.setattr(live, "_tell_pages", tell)
    return pages


# --- When hints are sent ----------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_hints_are_sent_after_the_commit(messenger, sent, pages):
    with transaction.atomic():
        live.wake(["steps", "steps", "host-7"])
        live.job_changed("job-1")
        messenger.flush()
        assert not sent
        assert not pages

    wait_until(lambda: pages)
    assert sent == [("steps", 2), ("host-7", 1)]
    assert pages == [["job-1"]]


@pytest.mark.django_db(transaction=True)
def test_hints_of_a_rolled_back_transaction_are_not_sent(messenger, sent, pages):
    with transaction.atomic():
        live.wake(["steps"])
        live.job_changed("job-1")
        transaction.set_rollback(True)

    messenger.flush()
    assert not sent
    assert not pages


def test_burst_of_changes_is_one_message(messenger, sent, pages, monkeypatch):
    without_threads(messenger, monkeypatch)
    for _ in range(50):
        messenger.post(wakes=["steps"], changed=["job-1"])
        messenger.post(changed=["job-2"])

    messenger.flush()

    assert sent == [("steps", live.MOST_WAITING)]
    assert pages == [["job-1", "job-2"]]


def without_threads(messenger, monkeypatch):
    for courier in (messenger.wakes, messenger.pages):
        monkeypatch.setattr(courier, "_run", lambda: None)


def test_nothing_to_say_is_not_sent(messenger, sent, pages):
    messenger.flush()

    assert not sent
    assert not pages


def test_hints_come_from_a_thread_that_does_not_keep_the_process_alive(messenger, pages):
    messenger.post(changed=["job-1"])

    wait_until(lambda: pages)
    assert messenger.pages._thread.daemon
    assert messenger.pages._thread is not threading.current_thread()


def test_dead_thread_is_replaced(messenger, pages):
    messenger.post(changed=["job-1"])
    wait_until(lambda: pages)
    dead = messenger.pages._thread = threading.Thread()

    messenger.post(changed=["job-2"])

    wait_until(lambda: len(pages) == 2)
    assert messenger.pages._thread is not dead


# --- To workers -------------------------------------------------------------------------------


def test_each_wake_up_call_is_one_message_on_its_queue(broker):
    live.send_wakes("steps", 3)
    live.send_wakes("host-7", 1)

    assert broker.llen("cartwright:steps") == 3
    assert broker.llen("cartwright:host-7") == 1


def test_no_more_calls_are_sent_than_threads_could_answer(broker):
    live.send_wakes("steps", 1000)

    assert broker.llen("cartwright:steps") == live.MOST_WAKES


def test_calls_that_nobody_takes_are_not_added_to_for_ever(messenger, broker, monkeypatch):
    without_threads(messenger, monkeypatch)
    for _ in range(3):
        messenger.post(wakes=["steps"] * 20)
        messenger.flush()

    assert broker.llen("cartwright:steps") == live.MOST_WAITING


def test_calls_that_found_no_room_are_sent_when_workers_have_taken_others(messenger, broker):
    """For steps that turn out to be long, so that each needs a thread of its own."""
    messenger.post(wakes=["steps"] * 6)

    for _ in range(6):
        wait_until(lambda: broker.lpop("cartwright:steps"))

    wait_until(lambda: not messenger.wakes._collected)
    assert broker.llen("cartwright:steps") == 0


def test_step_for_which_a_call_waits_already_has_a_call_of_its_own(messenger, broker):
    """The worker that takes the first may be busy with its step for long."""
    for count in (1, 2):
        messenger.post(wakes=["steps"])
        wait_until(lambda count=count: broker.llen("cartwright:steps") == count)


def test_waiting_calls_are_counted(broker):
    assert live.count_waiting_calls("steps") == 0

    live.send_wakes("steps", 3)

    assert live.count_waiting_calls("steps") == 3
    assert live.count_waiting_calls("host-7") == 0


# --- To pages ---------------------------------------------------------------------------------


@pytest.fixture
def fresh_layer():
    """A channel layer without connections of an earlier test's event loop."""
    channel_layers.backends.clear()
    yield
    channel_layers.backends.clear()


async def test_every_page_is_told_which_jobs_have_changed(broker, fresh_layer):
    layer = get_channel_layer()
    await layer.group_add(live.JOBS_GROUP, page := await layer.new_channel())
    await layer.group_add(live.JOBS_GROUP, list_page := await layer.new_channel())

    await live._tell_pages(["job-1", "job-2"])

    for channel in (page, list_page):
        message = await layer.receive(channel)
        assert message == {"type": "jobs.changed", "jobs": ["job-1", "job-2"]}
    await layer.close_pools()


# --- While the broker is away -----------------------------------------------------------------


def test_hint_that_cannot_be_sent_is_dropped_and_logged(messenger, caplog, monkeypatch):
    def refuse(queue, count):
        raise ConnectionRefusedError

    monkeypatch.setattr(live, "send_wakes", refuse)
    without_threads(messenger, monkeypatch)
    messenger.post(wakes=["steps"])

    messenger.flush()
    messenger.flush()

    assert [record.msg["event"] for record in caplog.records] == ["hint_not_sent"]


def test_messenger_goes_on_after_a_hint_that_could_not_be_sent(messenger, monkeypatch):
    sent = []

    def refuse_once(queue, count):
        if not sent:
            sent.append("refused")
            raise ConnectionRefusedError
        sent.append((queue, count))

    monkeypatch.setattr(live, "send_wakes", refuse_once)
    messenger.post(wakes=["steps"])
    wait_until(lambda: sent)
    messenger.post(wakes=["steps"])

    wait_until(lambda: len(sent) == 2)
    assert sent == ["refused", ("steps", 1)]
    assert messenger.wakes._thread.is_alive()


@pytest.mark.django_db(transaction=True)
def test_broker_that_does_not_answer_holds_no_writer_up(messenger, pages, monkeypatch):
    asked, answers = threading.Event(), threading.Event()

    def hang(queue, count):
        asked.set()
        assert answers.wait(10)

    monkeypatch.setattr(live, "send_wakes", hang)

    with transaction.atomic():
        live.wake(["steps"])
        live.job_changed("job-1")

    assert asked.wait(10)  # the writer is past its commit, the hint is still on its way
    wait_until(lambda: pages == [["job-1"]])
    answers.set()
