"""Phones: what is sent to them is posted to a URL, as an SMS forwarder on the phone would.

Two forwarders (FACTS.md, section 6): "Incoming SMS to URL" and SMS Gateway for Android, which
signs. Posting goes on in the background and never holds a page up; an answer other than 2xx, or
none, is tried again later, ever less often, and then given up. All of it is in the ledger.
"""

import asyncio
import hashlib
import hmac
import json
import random
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, get_args

import httpx

from automation.sandbox.switches import Scope, Switchboard
from automation.sandbox.vouchers.book import Book
from automation.sandbox.vouchers.descriptions import PHONE_HOST
from automation.sandbox.vouchers.people import unused_code
from automation.sandbox.vouchers.switches import PhoneSwitches

Format = Literal["incoming_sms_to_url", "sms_gateway"]
FORMATS = get_args(Format)
# SMS Gateway for Android waits that long for an answer.
ANSWER_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Target:
    """Where a phone's messages are posted. `headers` stand in the forwarder's settings, such as
    an API key; `secret` is what the gateway signs with."""

    number: str
    url: str
    format: str
    headers: dict[str, str]
    secret: str


@dataclass(frozen=True, slots=True)
class Message:
    id: str
    number: str
    sender: str
    text: str
    sent_at: float


class Phones:
    def __init__(self, book: Book, switchboard: Switchboard[PhoneSwitches]) -> None:
        self._book = book
        self._switchboard = switchboard
        self._tasks: set[asyncio.Task[None]] = set()
        self._http: httpx.AsyncClient | None = None

    def save_target(self, target: Target) -> bool:
        """True when the phone is new."""
        is_new = self.find_target(target.number) is None
        self._book.change(
            "INSERT OR REPLACE INTO voucher_phones VALUES (?, ?, ?, ?, ?)",
            target.number,
            target.url,
            target.format,
            json.dumps(target.headers),
            target.secret,
        )
        return is_new

    def find_target(self, number: str) -> Target | None:
        row = self._book.row("SELECT * FROM voucher_phones WHERE number = ?", number)
        return Target(**{**row, "headers": json.loads(row["headers"])}) if row else None

    def send(self, number: str, sender: str, text: str, code: str = "") -> None:
        """An SMS arrives at the phone, and is posted as the phone's switches say."""
        scope = Scope(account=number)
        switches = self._switchboard.switches_for(scope)
        note = None
        if code and self._switchboard.take("wrong", scope):
            other = unused_code(self._book)
            text, code, note = text.replace(code, other), other, "wrong"
        message = Message(secrets.token_hex(8), number, sender, text, time.time())
        is_lost = switches.never or self._switchboard.take("lost_first", scope)
        self._note("sms_lost" if is_lost else "sms_sent", message, code, note)
        target = self.find_target(number)
        if is_lost or target is None:
            return
        for copy in range(switches.copies):
            if copy and switches.new_ids:
                message = Message(secrets.token_hex(8), number, sender, text, message.sent_at)
            self._start(self._post(message, target, switches, code))

    def _start(self, posting: Any) -> None:
        task = asyncio.get_running_loop().create_task(posting)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _post(
        self, message: Message, target: Target, switches: PhoneSwitches, code: str
    ) -> None:
        await asyncio.sleep((switches.delay_ms + random.uniform(0, switches.shuffle_ms)) / 1000)
        wait = switches.retry_first_ms / 1000
        for attempt in range(1 + switches.most_retries):
            if attempt:
                await asyncio.sleep(wait)
                wait *= 2
            answer = await self._post_once(message, target)
            self._note("sms_posted", message, code, answer)
            if answer.startswith("2"):
                return
        self._note("sms_given_up", message, code)

    async def _post_once(self, message: Message, target: Target) -> str:
        """The status of the answer, or what went wrong."""
        if self._http is None:
            # No kept connection: one of a server that was restarted would cost a repetition.
            limits = httpx.Limits(max_keepalive_connections=0)
            self._http = httpx.AsyncClient(timeout=ANSWER_SECONDS, limits=limits, trust_env=False)
        body, headers = write_delivery(message, target, time.time())
        try:
            answer = await self._http.post(target.url, content=body, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return type(error).__name__
        return str(answer.status_code)

    def _note(self, action: str, message: Message, code: str, note: str | None = None) -> None:
        self._book.append(
            PHONE_HOST,
            action,
            phone=message.number,
            code=code or None,
            reference=message.id,
            note=note,
            text=f"{message.sender}: {message.text}",
        )

    def list_messages(self, number: str | None) -> list[dict[str, Any]]:
        rows = self._book.rows(
            "SELECT at, phone, action, text, note, reference AS id FROM voucher_ledger"
            " WHERE site = ?1 AND action IN ('sms_sent', 'sms_lost')"
            " AND (?2 IS NULL OR phone = ?2) ORDER BY voucher_ledger.id",
            PHONE_HOST,
            number,
        )
        return [dict(row) for row in rows]


def write_delivery(message: Message, target: Target, now: float) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a post. The phone's own number stands in what it posts."""
    headers = {"Content-Type": "application/json", **target.headers}
    if target.format == "incoming_sms_to_url":
        return json.dumps(_plain_body(message, now)).encode(), headers
    body = json.dumps(_gateway_body(message)).encode()
    timestamp = str(int(now))
    signature = hmac.new(target.secret.encode(), body + timestamp.encode(), hashlib.sha256)
    return body, headers | {"X-Timestamp": timestamp, "X-Signature": signature.hexdigest()}


def _plain_body(message: Message, now: float) -> dict[str, Any]:
    # `to` is not in the forwarder's own template; whoever has several phones writes it there.
    return {
        "from": message.sender,
        "to": message.number,
        "text": message.text,
        "sentStamp": int(message.sent_at * 1000),
        "receivedStamp": int(now * 1000),
        "sim": "sim1",
    }


def _gateway_body(message: Message) -> dict[str, Any]:
    received_at = datetime.fromtimestamp(message.sent_at, UTC).isoformat(timespec="milliseconds")
    return {
        "deviceId": hashlib.sha256(message.number.encode()).hexdigest()[:21],
        "event": "sms:received",
        "id": message.id,
        "webhookId": "sandbox",
        "payload": {
            "messageId": message.id[:8],
            "message": message.text,
            "sender": message.sender,
            "recipient": message.number,
            "simNumber": 1,
            "receivedAt": received_at,
        },
    }
