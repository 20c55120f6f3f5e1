"""The phones' screen: what was sent to them, for people who look on."""

from collections.abc import Callable, Mapping
from datetime import datetime

from starlette.responses import Response

from automation.sandbox.switches import Switchboard
from automation.sandbox.vouchers.descriptions import PHONE_HOST
from automation.sandbox.vouchers.people import People
from automation.sandbox.vouchers.phone import Phones
from automation.sandbox.vouchers.sales import Sales
from automation.sandbox.vouchers.site import Answer, Site, Visit
from automation.sandbox.vouchers.switches import PhoneSwitches

MOST_SHOWN = 40


class Screen(Site[PhoneSwitches]):
    host = PHONE_HOST
    name = "Phones"
    templates = "phone"

    def __init__(
        self,
        switchboard: Switchboard[PhoneSwitches],
        people: People,
        sales: Sales,
        phones: Phones,
    ) -> None:
        super().__init__(switchboard, people, sales)
        self._phones = phones

    def gets(self) -> Mapping[str, Callable[[Visit[PhoneSwitches]], Answer]]:
        return {"/": self.show_messages}

    def posts(self) -> Mapping[str, Callable[[Visit[PhoneSwitches]], Answer]]:
        return {}

    async def show_messages(self, visit: Visit[PhoneSwitches]) -> Response:
        newest = self._phones.list_messages(None)[: -MOST_SHOWN - 1 : -1]
        messages = []
        for each in newest:
            sender, text = each["text"].split(": ", 1)
            at = datetime.fromisoformat(each["at"]).timestamp()
            lost = each["action"] == "sms_lost"
            messages.append(
                {"phone": each["phone"], "sender": sender, "text": text, "at": at, "lost": lost}
            )
        return self.render(visit, "messages.html", messages=messages)
