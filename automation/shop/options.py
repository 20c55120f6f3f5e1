"""Chooses a product's options on its page, by the vendor data's description of the controls."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from automation.errors import (
    AutomationError,
    OptionUnavailable,
    OutOfStock,
    PageChanged,
    QuantityRefused,
)
from automation.shop.addresses import Likeness, likeness
from automation.shop.page import NOTHING_THERE, PART_PATIENCE, ShopPage
from automation.shop.placeholder import fill_in, spellings
from automation.site import PLACEHOLDER, Selectors, VariantControl

SETTLE_PATIENCE = 8.0
"""Seconds for the shop to work out price and stock of a choice."""

UNSETTLE_PATIENCE = 0.3
"""Seconds in which a choice must show its first effect where the page looked settled before it."""

NO = frozenset({"", "0", "no", "off", "false", "none"})
"""Values of a box that mean: not ticked."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A value for one option. Without a control the option has pages of its own (variant_link)."""

    name: str
    value: str
    control: VariantControl | None


def decide_choices(variant: Mapping[str, Any] | str | None, own: Selectors) -> list[list[Choice]]:
    """What a request chooses: for each of its values the choices that it may mean.

    More than one only for a bare value on a site with several options: its page has to tell.
    Raises OptionUnavailable for an option that the vendor data does not know.
    """
    if not variant:
        return []
    if isinstance(variant, str):
        readings = [Choice(name, variant, control) for name, control in own.variants.items()]
        if own.variant_link:
            readings.append(Choice("variant", variant, None))
        if not readings:
            raise OptionUnavailable(f"{variant!r} was asked for, but {_known_options(own)}")
        return [readings]
    return [[_choice(name, str(value), own)] for name, value in variant.items()]


def _choice(name: str, value: str, own: Selectors) -> Choice:
    for known, control in own.variants.items():
        if _plain(known) == _plain(name):
            return Choice(known, value, control)
    if own.variant_link:
        return Choice(name, value, None)
    raise OptionUnavailable(f"{name!r} is no option here: {_known_options(own)}")


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))


def _known_options(own: Selectors) -> str:
    names = ", ".join(own.variants)
    return f"the vendor data knows {names}." if names else "the vendor data knows no options."


class Options:
    """The options of one request on one product page."""

    def __init__(self, page: ShopPage, variant: Mapping[str, Any] | str | None) -> None:
        self._page = page
        self._quantity = 1
        self._asked = decide_choices(variant, page.site.selectors)
        self.values: list[tuple[str, ...]] = []
        """The chosen values in the ways that a cart may write them. A tick is nothing to read."""
        self.other_values: list[str] = []
        self.places_quantity = False
        """Whether the quantity went into a chosen variant's own field."""

    @property
    def are_asked(self) -> bool:
        return bool(self._asked)

    async def choose(self, quantity: int) -> None:
        """Makes every choice and waits until the shop has settled each."""
        self._quantity = quantity
        self.values, self.other_values = [], []
        choices = [await self._decide_reading(readings) for readings in self._asked]
        for choice in await self._in_page_order(choices):
            if choice.control is None:
                await self._follow_link(choice)
            else:
                await self._make(choice, choice.control)

    def _note(self, *ways: str, others: Sequence[str] = ()) -> None:
        self.values.append(tuple(dict.fromkeys(ways)))
        self.other_values += others

    async def _decide_reading(self, readings: list[Choice]) -> Choice:
        """The option of this product that a bare value belongs to."""
        if len(readings) == 1:
            return readings[0]
        await self._page.until(lambda now: now.parsed)
        offers = [(each, await self._offer(each)) for each in readings]
        there = [(each, offer) for each, offer in offers if offer["found"]]
        fitting = [each for each, offer in there if offer.get("matched", True)]
        decided = fitting if len(fitting) == 1 else [each for each, _ in there]
        if len(decided) == 1:
            return decided[0]
        names = ", ".join(choice.name for choice in readings)
        raise OptionUnavailable(
            f"{readings[0].value!r} may be any of several options ({names}), or of none: name it, "
            f'as in {{"{readings[0].name}": "{readings[0].value}"}}.'
        )

    async def _offer(self, choice: Choice) -> Any:
        if choice.control is None:
            link = self._page.site.selectors.variant_link or ""
            return await self._page.ask("link", candidates=_candidates(link, choice.value))
        question = "pick" if choice.control.kind == "select" else "control"
        return await self._page.ask(question, act=False, **_details(choice, choice.control))

    async def _in_page_order(self, choices: list[Choice]) -> list[Choice]:
        """From top to bottom: a choice decides what the options below it offer."""
        if len(choices) < 2:
            return choices
        candidates = [
            _candidates(choice.control.selector, choice.value) if choice.control else []
            for choice in choices
        ]
        order = await self._page.ask("order", groups=candidates)
        return [choices[index] for index in order]

    # ---- one choice -----------------------------------------------------------------------------

    async def _make(self, choice: Choice, control: VariantControl) -> None:
        self._page.session.phase(f"Choosing {choice.name}: {choice.value}")
        if control.reveal:
            await self._reveal(choice, control, control.reveal)
        settled = _candidates(control.settled, choice.value) if control.settled else None
        was_settled = settled is not None and await self._shows(settled)
        self._page.traffic.mark()
        match control.kind:
            case "select":
                await self._select(choice, control)
            case "fill":
                await self._fill(choice, control)
            case "quantity":
                await self._place_quantity(choice, control)
            case "click" | "check":
                await self._press(choice, control)
        await self._await_settled(choice, settled, was_settled=was_settled)

    async def _reveal(self, choice: Choice, control: VariantControl, reveal: str) -> None:
        wanted = _candidates(control.selector, choice.value)
        if await self._shows(wanted):
            return
        button = await self._await(
            "control",
            lambda found: bool(found["found"] and found["shown"]),
            candidates=_candidates(reveal, choice.value),
            names_value=True,
            values=[choice.value],
        )
        if button["found"]:
            key = f"variants.{choice.name}.reveal"
            await self._page.press(key, button["place"], button["selector"])
            await self._await("isShown", lambda now: bool(now["shown"]), candidates=wanted)

    async def _select(self, choice: Choice, control: VariantControl) -> None:
        found = await self._await(
            "pick",
            lambda now: bool(now["found"] and now["free"]),
            act=True,
            **_details(choice, control),
        )
        if not found["found"]:
            raise await self._missing(choice)
        if not found["free"]:
            why = "cannot be chosen, it may be sold out" if found["matched"] else "is not offered"
            raise self._unavailable(choice, why, found["options"])
        self._note(choice.value, found["chosen"], others=found["others"])

    async def _fill(self, choice: Choice, control: VariantControl) -> None:
        found = await self._find_control(choice, control)
        target = self._page.locate(found["selector"]).nth(found["place"])
        await target.fill(choice.value)
        self._note(choice.value)
        await target.blur()  # `change`, which many scripts wait for, comes with leaving the field

    async def _place_quantity(self, choice: Choice, control: VariantControl) -> None:
        found = await self._find_control(choice, control)
        answer = await self._page.ask(
            "setQuantity",
            selector=found["selector"],
            place=found["place"],
            quantity=self._quantity,
        )
        if not answer["found"] or not answer["set"]:
            raise QuantityRefused(
                f"The field of {choice.value} does not take {self._quantity}: {answer.get('says')}"
            )
        self.places_quantity = True
        self._note(choice.value)

    async def _press(self, choice: Choice, control: VariantControl) -> None:
        found = await self._find_control(choice, control)
        wanted = control.kind == "click" or _is_ticked(choice, control)
        if control.kind == "click":
            self._note(choice.value, others=found["others"])
        if found["chosen"] == wanted and (found["box"] or wanted):
            return  # pressing what is chosen already would undo it
        if found["box"]:
            await self._page.ask("tick", selector=found["selector"], place=found["place"])
            return
        await self._page.press(f"variants.{choice.name}", found["place"], found["selector"])

    async def _find_control(self, choice: Choice, control: VariantControl) -> Any:
        """The control, once it is there and free. A styled box may be hidden under its label."""

        def is_ready(found: Any) -> bool:
            usable = found["found"] and not found["disabled"]
            return bool(usable and (found["shown"] or found["box"]))

        found = await self._await("control", is_ready, **_details(choice, control))
        if not found["found"]:
            if found["options"] or PLACEHOLDER in control.selector:
                raise await self._not_offered(choice, found["options"])
            raise await self._missing(choice)
        if found["disabled"]:
            raise self._unavailable(choice, "cannot be chosen", found["options"])
        if not is_ready(found):
            raise await self._missing(choice)
        return found

    async def _follow_link(self, choice: Choice) -> None:
        """Goes to the chosen variant's own page, unless this is it."""
        self._page.session.phase(f"Choosing {choice.value}")
        link = self._page.site.selectors.variant_link or ""
        found = await self._await("link", _is_found, candidates=_candidates(link, choice.value))
        if not found["found"]:
            raise await self._not_offered(choice, [])
        state = await self._page.look()
        if not found["href"]:
            await self._page.press("variant_link", 0, found["selector"])
        elif likeness(found["href"], state.url) is not Likeness.SAME:
            await self._page.open(found["href"])
        self._note(choice.value)

    # ---- waiting --------------------------------------------------------------------------------

    async def _await(
        self,
        question: str,
        ready: Callable[[Any], bool],
        *,
        patience: float = PART_PATIENCE,
        **details: Any,
    ) -> Any:
        """The page's answer once it is ready, or its last one: an earlier choice may still load."""

        def is_over(answer: Any) -> bool:
            return ready(answer) or self._page.quiet(NOTHING_THERE)

        answer = await self._page.ask_until(question, is_over, patience=patience, **details)
        if not ready(answer):
            await self._page.look()  # a captcha or a block explains more than a missing control
        return answer

    async def _shows(self, candidates: list[str]) -> bool:
        return bool((await self._page.ask("isShown", candidates=candidates))["shown"])

    async def _await_settled(
        self, choice: Choice, settled: list[str] | None, *, was_settled: bool
    ) -> None:
        traffic = self._page.traffic
        if settled is None:
            await self._page.until(lambda _: not traffic.awaited, patience=SETTLE_PATIENCE)
            return
        if was_settled:
            # What stood there before the choice says nothing about it: see it stir first.
            await self._await(
                "isShown",
                lambda now: traffic.sent or not now["shown"],
                patience=UNSETTLE_PATIENCE,
                candidates=settled,
            )
        answer = await self._await(
            "isShown",
            lambda now: now["shown"] and not traffic.awaited,
            patience=SETTLE_PATIENCE,
            candidates=settled,
        )
        if not answer["shown"]:
            await self._raise_sold_out()
            raise self._changed(choice, "settled", f"The page did not settle on {choice.value}")

    # ---- refusals -------------------------------------------------------------------------------

    async def _raise_sold_out(self) -> None:
        state = await self._page.look()
        if state.says("out_of_stock_indicator"):
            raise OutOfStock(f"The product is out of stock: {state.text('out_of_stock_indicator')}")

    async def _missing(self, choice: Choice) -> AutomationError:
        await self._raise_sold_out()
        return self._changed(choice, "selector", f"The page has no control for {choice.name}")

    async def _not_offered(self, choice: Choice, options: Sequence[str]) -> AutomationError:
        await self._raise_sold_out()
        return self._unavailable(choice, "is not offered", options)

    def _unavailable(self, choice: Choice, why: str, options: Sequence[str]) -> OptionUnavailable:
        offered = f" The page offers: {', '.join(options[:20])}." if options else ""
        return OptionUnavailable(f"{choice.name} {choice.value!r} {why}.{offered}")

    def _changed(self, choice: Choice, part: str, message: str) -> PageChanged:
        return PageChanged(
            message,
            key=f"variants.{choice.name}.{part}",
            selector=str(getattr(choice.control, part, None)),
        )


def _is_found(answer: Any) -> bool:
    return bool(answer["found"])


def _candidates(selector: str, value: str) -> list[str]:
    """The selectors for a value, in the ways that shops spell it."""
    if PLACEHOLDER not in selector:
        return [selector]
    return list(dict.fromkeys(fill_in(selector, each) for each in spellings(value)))


def _details(choice: Choice, control: VariantControl) -> dict[str, Any]:
    return {
        "candidates": _candidates(control.selector, choice.value),
        "names_value": PLACEHOLDER in control.selector,
        "values": spellings(choice.value),
    }


def _is_ticked(choice: Choice, control: VariantControl) -> bool:
    """A box that is one of several bears the value; a box alone is ticked or not."""
    return PLACEHOLDER in control.selector or choice.value.casefold() not in NO
