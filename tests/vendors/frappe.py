"""A Frappe site: a real HTTP server that checks and answers as Frappe's REST API does, and the
webhooks that such a site sends.

After frappe/frappe: `auth.py` (token and Basic keys), `api/v1.py` (PUT /api/resource), what
`model/base_document.py` allows after submission, and `integrations/doctype/webhook/webhook.py`.
"""

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

SIGNATURE_HEADER = "X-Frappe-Webhook-Signature"
DRAFT, SUBMITTED, CANCELLED = 0, 1, 2


class FrappeError(Exception):
    def __init__(self, status: int, exc_type: str, message: str) -> None:
        super().__init__(message)
        self.status, self.exc_type = status, exc_type


@dataclass
class Document:
    """`fields` are those its DocType has; `after_submit` may be changed when it is submitted."""

    fields: dict[str, Any]
    docstatus: int = DRAFT
    after_submit: frozenset[str] = frozenset({"custom_cart_status", "custom_cart_message"})
    saves: list[dict[str, Any]] = field(default_factory=list)


class Site:
    """`keys` are users' API keys with their secrets; `writers` are the keys that may write.
    `fails_with` answers every request with that status; `gate`, once cleared, holds them back."""

    def __init__(self) -> None:
        self.documents: dict[tuple[str, str], Document] = {}
        self.keys = {"key-of-cartwright": "secret-of-cartwright"}
        self.writers = set(self.keys)
        self.fails_with: int | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.calls: list[tuple[str, str]] = []
        self.authorizations: list[str] = []
        self._server = _Server(self)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def add(self, doctype: str, name: str, docstatus: int = DRAFT, **fields: Any) -> Document:
        known = {"custom_cart_status": None, "custom_cart_message": None, **fields}
        document = self.documents[doctype, name] = Document(known, docstatus)
        return document

    def put(self, path: str, authorization: str, raw: bytes) -> dict[str, Any]:
        user = self._authenticate(authorization)
        parts = urlsplit(path).path.strip("/").split("/", 3)
        if parts[:2] != ["api", "resource"] or len(parts) < 4:
            raise FrappeError(404, "DoesNotExistError", "Not Found")
        doctype, name = unquote(parts[2]), unquote(parts[3])
        document = self.documents.get((doctype, name))
        if document is None:
            raise FrappeError(404, "DoesNotExistError", f"{doctype} {name} not found")
        if user not in self.writers:
            raise FrappeError(403, "PermissionError", f"No permission for {doctype}")
        # What the DocType has no field for is dropped without a word.
        data = json.loads(raw)
        known = {key: value for key, value in data.items() if key in document.fields}
        self._save(document, known)
        return {"doctype": doctype, "name": name, **document.fields}

    def _authenticate(self, authorization: str) -> str:
        """The API key; Guest, who may do nothing here, is refused by PermissionError."""
        parts = authorization.split(" ")
        if len(parts) != 2:
            raise FrappeError(403, "PermissionError", "Guest may not write")
        kind, token = parts
        if kind.lower() == "basic":
            token = base64.b64decode(token).decode()
        elif kind.lower() != "token":
            raise FrappeError(401, "AuthenticationError", "Authentication failed")
        if token.count(":") != 1:
            raise FrappeError(401, "AuthenticationError", "Authentication failed")
        key, secret = token.split(":")
        if self.keys.get(key) != secret:
            raise FrappeError(401, "AuthenticationError", "Authentication failed")
        return key

    def _save(self, document: Document, data: dict[str, Any]) -> None:
        if document.docstatus == CANCELLED:
            raise FrappeError(417, "ValidationError", "Cannot edit cancelled document")
        changed = {key for key, value in data.items() if document.fields[key] != value}
        if document.docstatus == SUBMITTED and (refused := changed - document.after_submit):
            label = min(refused)
            raise FrappeError(
                417, "UpdateAfterSubmitError", f"Not allowed to change {label} after submission"
            )
        document.fields.update(data)
        document.saves.append(dict(data))

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, site: Site) -> None:
        self.site = site
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that went away


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_PUT(self) -> None:
        site = self.server.site
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        site.calls.append(("PUT", self.path))
        site.authorizations.append(self.headers.get("Authorization", ""))
        site.gate.wait(30)
        if site.fails_with:
            self._answer(site.fails_with, {"exc_type": "SessionStopped"})
            return
        try:
            data = site.put(self.path, self.headers.get("Authorization", ""), raw)
        except FrappeError as error:
            said = json.dumps([json.dumps({"message": str(error), "indicator": "red"})])
            exception = f"frappe.exceptions.{error.exc_type}: {error}"
            body = {"exception": exception, "exc_type": error.exc_type, "_server_messages": said}
            self._answer(error.status, body)
        else:
            self._answer(200, {"data": data})

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        written = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(written)))
        self.end_headers()
        self.wfile.write(written)

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def frappe_site() -> Iterator[Site]:
    site = Site()
    site.start()
    try:
        yield site
    finally:
        site.stop()


@dataclass(frozen=True)
class Webhook:
    """What a site's Webhook sends for a document. `content_type` is what its form adds by itself:
    none where no Request Structure was chosen, and a form's for a JSON body in the old ones."""

    body: bytes
    headers: dict[str, str]


def as_version_15(data: Any, secret: str, content_type: str | None = None) -> Webhook:
    """`json.dumps(data)`, signed as it is."""
    return _signed(json.dumps(data).encode(), secret, content_type)


def as_version_17(data: Any, secret: str, content_type: str | None = None) -> Webhook:
    """`frappe.as_json(data)`: sorted and indented, signed as it is."""
    body = json.dumps(data, indent=1, sort_keys=True, separators=(",", ": ")).encode()
    return _signed(body, secret, content_type)


def _signed(body: bytes, secret: str, content_type: str | None) -> Webhook:
    digest = hmac.new(secret.encode("utf8"), body, hashlib.sha256).digest()
    headers = {SIGNATURE_HEADER: base64.b64encode(digest).decode()}
    if content_type:
        headers["Content-Type"] = content_type
    return Webhook(body, headers)
