"""The sandbox's voucher sites for tests: their process, their control paths, and a buyer by HTTP.

The buyer fills in forms as a browser does, without one: for tests of the sites themselves, and for
whatever has to stand at some point of a purchase quickly.
"""

import json
import queue
import subprocess
import sys
import threading
from contextlib import contextmanager
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

import httpx

ROOT = Path(__file__).parents[1]
PASSWORD = "sandbox-pw"
PORTAL, PAY, BANK, WALLET, PHONE = (
    f"{name}.localhost" for name in ("vouchers", "pay", "bank", "wallet", "phone")
)


@contextmanager
def running_sandbox(ledger):
    """The URL of a sandbox with that ledger."""
    command = [sys.executable, "-m", "automation.sandbox", "--port", "0", "--ledger", str(ledger)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        try:
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.kill()


class VoucherSandbox:
    """The control paths of all its voucher sites."""

    def __init__(self, url):
        self.url = url
        self.port = urlsplit(url).port
        self._http = httpx.Client(base_url=url, timeout=10, verify=False)

    def close(self):
        self._http.close()

    def ask(self, host, path, **params):
        answer = self._http.get(f"/_sandbox/{path}", params=params, headers={"Host": host})
        return answer.raise_for_status().json()

    def send(self, host, path, **body):
        answer = self._http.post(f"/_sandbox/{path}", json=body, headers={"Host": host})
        return answer.raise_for_status().json()

    def try_to_send(self, host, path, **body):
        return self._http.post(f"/_sandbox/{path}", json=body, headers={"Host": host})

    def switch(self, host, **values):
        self.send(host, "switches", **values)

    def reset(self):
        for host in (PORTAL, PAY, BANK, WALLET, PHONE):
            self._http.delete("/_sandbox/switches", headers={"Host": host})

    def new_account(self, host, phone, email=None, **more):
        email = email or f"{uuid4().hex[:12]}@office.example"
        self.send(host, "accounts", email=email, password=PASSWORD, phone=phone, **more)
        return email

    def new_card(self, phone, **more):
        number = new_card_number()
        card = {"number": number, "expiry": "09/31", "cvv": "123"} | more
        self.send(BANK, "cards", phone=phone, **card)
        return card | {"holder": "A Buyer"}

    def new_phone(self, url=None, **more):
        number = f"+9190{uuid4().int % 10**8:08}"
        if url:
            self.send(PHONE, "phones", number=number, url=url, **more)
        return number

    def entries(self, host="all", action=None, **params):
        if host == "all":
            params["site"], host = "all", PORTAL
        if action:
            params["action"] = action
        return self.ask(host, "ledger", **params)["entries"]

    def actions(self, host="all", **params):
        return [entry["action"] for entry in self.entries(host, **params)]

    def last_code(self, phone):
        """The newest code that was sent to the phone, whether it got there or not."""
        return self.entries(action="code_sent", phone=phone)[-1]["code"]

    def orders_of(self, account):
        return self.ask(PORTAL, "orders", account=account)["orders"]

    def truth(self, account=None):
        return self.ask(PORTAL, "truth", **({"account": account} if account else {}))


class Page:
    """A page as it was got: its forms, and the text of its parts by class."""

    def __init__(self, answer):
        self.answer = answer
        self.status = answer.status_code
        self.url = str(answer.url)
        self.html = answer.text
        parser = _Reader()
        parser.feed(self.html)
        self.forms = parser.forms
        self.text = " ".join(" ".join(parser.texts).split())
        self.texts_by_class = parser.by_class
        self.links = parser.links

    def has(self, name):
        return name in self.texts_by_class

    def part(self, name):
        return self.parts(name)[0]

    def parts(self, name):
        return [" ".join(text.split()) for text in self.texts_by_class.get(name, [])]

    def form(self, name):
        return next(form for form in self.forms if name in form["classes"])


class _Reader(HTMLParser):
    VOID = {"input", "meta", "link", "br", "path", "img"}

    def __init__(self):
        super().__init__()
        self.forms, self.texts, self.by_class, self.links = [], [], {}, {}
        self._open = []
        self._quiet = 0

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        classes = (attrs.get("class") or "").split()
        if tag == "form":
            self.forms.append({"classes": classes, "action": attrs.get("action"), "fields": {}})
        if tag in ("input", "select") and self.forms and attrs.get("name"):
            self.forms[-1]["fields"][attrs["name"]] = attrs.get("value", "")
        if tag == "a":
            for name in [*classes, attrs.get("rel", "")]:
                self.links.setdefault(name, attrs.get("href"))
        for name in classes:
            self.by_class.setdefault(name, []).append("")
        if tag not in self.VOID:
            places = [(name, len(self.by_class[name]) - 1) for name in classes]
            self._open.append((tag, places))

    def handle_endtag(self, tag):
        while self._open:
            if self._open.pop()[0] == tag:
                return

    def handle_data(self, data):
        if self._open and self._open[-1][0] in ("script", "style"):
            return
        self.texts.append(data)
        for _, places in self._open:
            for name, index in places:
                self.by_class[name][index] += data


class Buyer:
    """A visitor of all sites, who keeps the cookies of each apart."""

    def __init__(self, sandbox):
        self._sandbox = sandbox
        self._http = httpx.Client(base_url=sandbox.url, timeout=10, verify=False)
        self._cookies = {}
        self.page = None

    def close(self):
        self._http.close()

    def open(self, url):
        """GET, following redirects from host to host."""
        self.page = Page(self._follow("GET", url, None))
        return self.page

    def submit(self, name, *, timeout=10, **fields):
        """Fill in the page's form of that class, send it, and follow where it leads."""
        form = self.page.form(name)
        url = str(httpx.URL(self.page.url).join(form["action"]))
        self.page = Page(self._follow("POST", url, form["fields"] | fields, timeout))
        return self.page

    def _follow(self, method, url, data, timeout=10):
        for _ in range(10):
            parts = urlsplit(url)
            host = parts.hostname
            path = parts.path + (f"?{parts.query}" if parts.query else "")
            cookies = self._cookies.setdefault(host, {})
            headers = {"Host": f"{host}:{self._sandbox.port}"}
            if cookies:
                headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
            self._http.cookies.clear()
            answer = self._http.request(method, path, data=data, headers=headers, timeout=timeout)
            cookies.update(answer.cookies)
            if answer.status_code != 303:
                answer.request.url = httpx.URL(url)
                return answer
            url = str(httpx.URL(url).join(answer.headers["location"]))
            method, data = "GET", None
        raise AssertionError("redirected in a circle")

    def at(self, host, path="/"):
        return f"http://{host}:{self._sandbox.port}{path}"

    # What buyers do

    def log_in(self, host, email, phone, password=PASSWORD):
        self.open(self.at(host, "/login"))
        self.submit("log-in", email=email, password=password)
        if any("one-time-code" in form["classes"] for form in self.page.forms):
            self.submit("one-time-code", code=self._sandbox.last_code(phone))
        return self.page

    def make_link(self, amount=1500, reference="ours-1"):
        """The order's page."""
        self.open(self.at(PORTAL, "/buy"))
        return self.submit("buy", amount=str(amount), reference=reference)

    def give_card(self, link, card):
        """The bank's page, or the result."""
        self.open(link)
        fields = {name: card[name] for name in ("number", "expiry", "cvv", "holder")}
        return self.submit("card", **fields)

    def redeem(self, code, pin):
        self.open(self.at(WALLET, "/balance/add"))
        return self.submit("redeem", code=code, pin=pin)


def new_card_number(prefix="4"):
    """Sixteen digits (fifteen after a 3), the last of them the check digit."""
    length = 15 if prefix.startswith("3") else 16
    head = prefix + f"{uuid4().int % 10 ** (length - 1 - len(prefix)):0{length - 1 - len(prefix)}}"
    digits = [int(sign) for sign in reversed(head)]
    doubled = [digit * 2 if place % 2 == 0 else digit for place, digit in enumerate(digits)]
    total = sum(value - 9 if value > 9 else value for value in doubled)
    return f"{head}{-total % 10}"


class Forwarded(NamedTuple):
    body: bytes
    headers: dict

    @property
    def data(self):
        return json.loads(self.body)


@contextmanager
def receiving():
    """A server that messages are forwarded to."""
    server = _Receiver(("127.0.0.1", 0), _Taking)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Receiver(ThreadingHTTPServer):
    """`statuses` are what it answers first; then it says 200."""

    daemon_threads = True

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/otp"
        self.statuses = []
        self._taken = queue.Queue()

    def take(self, timeout=10):
        """The next message, when it comes."""
        return self._taken.get(timeout=timeout)

    @property
    def is_empty(self):
        return self._taken.empty()


class _Taking(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server._taken.put(Forwarded(body, dict(self.headers)))
        self.send_response(self.server.statuses.pop(0) if self.server.statuses else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass
