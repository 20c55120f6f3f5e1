"""Calls that threads make at the same time become one.

The first to call runs, for itself and then, one after the other, for all who came while it ran: the
busier the threads, the more of their work is one statement and one commit. Whoever calls alone
waits for nobody.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


@dataclass
class _Call(Generic[T, R]):
    argument: T
    leads: bool = False
    results: list[R] = field(default_factory=list)  # one, once it was carried out
    error: BaseException | None = None
    turn: threading.Event = field(default_factory=threading.Event)


class Combiner(Generic[T, R]):
    """`run` takes the arguments of several calls and returns the result of each, in their order.

    Should it raise, each call is carried out again alone, so that it must be safe to repeat, and
    only those that raise by themselves have failed.
    """

    def __init__(self, run: Callable[[Sequence[T]], Sequence[R]], most: int) -> None:
        self._run = run
        self._most = most
        self._lock = threading.Lock()
        self._waiting: deque[_Call[T, R]] = deque()
        self._is_led = False

    def call(self, argument: T) -> R:
        call: _Call[T, R] = _Call(argument)
        with self._lock:
            if self._is_led:
                self._waiting.append(call)
            else:
                self._is_led = call.leads = True
        if not call.leads:
            call.turn.wait()
        if call.leads:
            self._lead(call)
        if call.error is not None:
            raise call.error
        return call.results[0]

    def _lead(self, call: _Call[T, R]) -> None:
        with self._lock:
            room = min(len(self._waiting), self._most - 1)
            others = [self._waiting.popleft() for _ in range(room)]
        try:
            self._carry_out([call, *others])
        finally:
            with self._lock:
                following = self._waiting.popleft() if self._waiting else None
                self._is_led = following is not None
            if following:
                following.leads = True
                following.turn.set()
            for other in others:
                other.turn.set()

    def _carry_out(self, calls: Sequence[_Call[T, R]]) -> None:
        try:
            results = self._run([call.argument for call in calls])
        except Exception as error:  # noqa: BLE001  it is raised again, in each caller
            if len(calls) > 1:
                for call in calls:
                    self._carry_out([call])
            else:
                calls[0].error = error
        except BaseException as error:  # noqa: BLE001
            for call in calls:
                call.error = error
        else:
            for call, result in zip(calls, results, strict=True):
                call.results.append(result)
