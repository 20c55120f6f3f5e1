"""Calls at the same time become one; each caller gets its own result, or its own error."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from jobs.combining import Combiner


class Server:
    """Doubles numbers; the first call waits until it is let go."""

    def __init__(self, most=32):
        self.batches = []
        self.begun, self.may_go_on = Event(), Event()
        self.combiner = Combiner(self.run, most)

    def run(self, numbers):
        self.batches.append(list(numbers))
        if len(self.batches) == 1:
            self.begun.set()
            assert self.may_go_on.wait(10)
        return [2 * number for number in numbers]


def call_during_the_first(server, numbers, first=0):
    """Calls with these numbers, in this order, while the call with `first` is carried out."""
    with ThreadPoolExecutor(len(numbers) + 1) as threads:
        calls = [threads.submit(server.combiner.call, first)]
        assert server.begun.wait(10)
        for waiting, number in enumerate(numbers, start=1):
            calls.append(threads.submit(server.combiner.call, number))
            while len(server.combiner._waiting) < waiting:
                pass
        server.may_go_on.set()
        return calls


def test_lone_call_is_carried_out_at_once():
    server = Server()
    server.may_go_on.set()

    assert [server.combiner.call(n) for n in (1, 2)] == [2, 4]
    assert server.batches == [[1], [2]]


def test_calls_that_come_meanwhile_are_carried_out_together():
    server = Server()

    calls = call_during_the_first(server, [1, 2, 3])

    assert [call.result(10) for call in calls] == [0, 2, 4, 6]
    assert server.batches == [[0], [1, 2, 3]]


def test_no_more_than_the_most_are_carried_out_together():
    server = Server(most=2)

    calls = call_during_the_first(server, [1, 2, 3, 4, 5])

    assert [call.result(10) for call in calls] == [0, 2, 4, 6, 8, 10]
    assert server.batches == [[0], [1, 2], [3, 4], [5]]


def test_call_that_fails_harms_no_other():
    server = Server()
    real = server.run

    def run(numbers):
        results = real(numbers)
        if 2 in numbers:
            raise ValueError("two")
        return results

    server.combiner = Combiner(run, 32)

    zero, one, two, three = call_during_the_first(server, [1, 2, 3])

    assert (zero.result(10), one.result(10), three.result(10)) == (0, 2, 6)
    with pytest.raises(ValueError, match="two"):
        two.result(10)
    assert server.batches == [[0], [1, 2, 3], [1], [2], [3]]


def test_after_a_failure_calls_are_carried_out_as_before():
    server = Server()
    server.may_go_on.set()
    combiner = Combiner(lambda numbers: [1 / number for number in numbers], 32)

    with pytest.raises(ZeroDivisionError):
        combiner.call(0)

    assert combiner.call(2) == 0.5


def test_thread_that_is_told_to_exit_leaves_nobody_waiting():
    server = Server()
    real = server.run

    def run(numbers):
        real(numbers)
        raise SystemExit

    server.combiner = Combiner(run, 32)

    for call in call_during_the_first(server, [1, 2]):
        with pytest.raises(SystemExit):
            call.result(10)
