"""Switches: how a shop misbehaves, set while it runs, for everybody or for one account or product.

README.md explains each switch. They live in memory: a restarted shop behaves well again.
"""

import difflib
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Generic, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

Confirmation = Literal["redirect", "flash", "toast", "overlay", "drawer", "none"]


@dataclass(frozen=True, slots=True)
class Switches:
    """What holds for one visit. A field's type is also what `POST /_sandbox/switches` accepts."""

    latency_ms: int = 0
    fail_next: int = 0
    rate_limit: int = 0
    rate_window_seconds: int = 60
    login_limit: int = 0
    login_window_seconds: int = 900
    login_redirects: bool = False
    blocked: bool = False
    captcha: Literal["off", "login", "after_login", "product", "add"] = "off"
    cart_scope: Literal["account", "session"] = "account"
    expire_before_adds: int = 0
    out_of_stock: Literal["no", "shown", "on_add"] = "no"
    redirect_to: str = ""
    moved_selector: bool = False
    overlay_ms: int = 0
    variant_ajax_ms: int = 0
    confirmation: Confirmation = "toast"
    stale_message: bool = False
    double_click_adds: bool = False
    add_delay_ms: int = 0
    hang_adds: int = 0
    hang_seconds: int = 30


S = TypeVar("S")
"""A frozen dataclass of switches, each with the value that holds when nothing is set."""


class SwitchRefused(ValueError):
    """The text says which value was refused and what would be accepted."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Whom a setting is for; None stands for everybody, or for every product."""

    account: str | None = None
    product: str | None = None


@dataclass(slots=True)
class Switchboard(Generic[S]):
    """The settings of one shop. A narrower scope wins: account over product over everybody."""

    defaults: S
    settings: dict[Scope, dict[str, Any]] = field(default_factory=dict)
    _arrivals: dict[tuple[Scope, str], deque[float]] = field(default_factory=dict)

    def set(self, scope: Scope, values: Mapping[str, Any]) -> None:
        """Put all of `values` in force, or none. None takes a setting back."""
        for name, value in values.items():
            _check(type(self.defaults), name, value)
        setting = self.settings.setdefault(scope, {})
        for name, value in values.items():
            self._arrivals.pop((scope, name), None)
            if value is None:
                setting.pop(name, None)
            else:
                setting[name] = value

    def reset(self) -> None:
        self.settings.clear()
        self._arrivals.clear()

    def switches_for(self, scope: Scope) -> S:
        values: dict[str, Any] = {}
        for wider in reversed(list(_scopes_around(scope))):
            values |= self.settings.get(wider, {})
        return replace(cast("Any", self.defaults), **values) if values else self.defaults

    def take(self, name: str, scope: Scope) -> bool:
        """Use up one of a counted switch ("the next N requests"); False when none is left."""
        holder = self._find_holder(name, scope)
        if holder is None or self.settings[holder][name] == 0:
            return False
        self.settings[holder][name] -= 1
        return True

    def seconds_to_wait(self, limit: str, window_seconds: int, scope: Scope) -> float | None:
        """None and counted as an arrival, or how long the limit still keeps the visitor out.

        Arrivals are counted for the scope that the limit was set for.
        """
        holder = self._find_holder(limit, scope)
        if holder is None or self.settings[holder][limit] == 0:
            return None
        arrivals = self._arrivals.setdefault((holder, limit), deque())
        now = time.monotonic()
        while arrivals and arrivals[0] <= now - window_seconds:
            arrivals.popleft()
        if len(arrivals) >= self.settings[holder][limit]:
            return arrivals[0] + window_seconds - now
        arrivals.append(now)
        return None

    def _find_holder(self, name: str, scope: Scope) -> Scope | None:
        for candidate in _scopes_around(scope):
            if name in self.settings.get(candidate, ()):
                return candidate
        return None


def _scopes_around(scope: Scope) -> Iterator[Scope]:
    """Narrowest first. Repeats a scope where `scope` names no account or product: harmless."""
    yield scope
    yield Scope(account=scope.account)
    yield Scope(product=scope.product)
    yield Scope()


_types_of = cache(get_type_hints)


def _check(switches: type, name: str, value: Any) -> None:
    types = _types_of(switches)
    if name not in types:
        names = list(types)
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}."
        raise SwitchRefused(f"There is no switch {name!r}; {hint}")
    wanted = types[name]
    if value is None:
        return
    if get_origin(wanted) is Literal:
        if value not in get_args(wanted):
            raise SwitchRefused(f"{name} is one of {', '.join(get_args(wanted))}, not {value!r}.")
    elif type(value) is not wanted:
        raise SwitchRefused(f"{name} takes a value of type {wanted.__name__}, not {value!r}.")
    elif wanted is int and value < 0:
        raise SwitchRefused(f"{name} is 0 or more, not {value!r}.")
