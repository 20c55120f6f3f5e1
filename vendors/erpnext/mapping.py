"""From the body of a Frappe webhook to requests of POST /api/cart/add. Reads vendors, writes
nothing.

The body is what the site's webhook was set up to send, so a connection says by which key each thing
is found in it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from rest_framework.exceptions import ValidationError

from automation.site import http_host
from vendors import cart_queue
from vendors.api.serializers import check_cart_add
from vendors.errors import RequestRefused
from vendors.models import ErpnextConnection, Vendor
from vendors.models.erpnext import BODY_KEYS, LONGEST_NAME

USER_ID = "erpnext"  # the PRD's constant (section 7.4)
MOST_ROWS = 200  # of one webhook: it is answered within Frappe's five seconds


@dataclass(frozen=True)
class AskedRow:
    """A row that asks for a product. `path` is where it stands in the body; `asked` is what can be
    compared with another time's."""

    path: str
    row: str
    asked: Mapping[str, Any]


@dataclass(frozen=True)
class AskedDocument:
    name: str
    rows: Sequence[AskedRow]


def read_document(connection: ErpnextConnection, body: Mapping[str, Any]) -> AskedDocument:
    """Raises DRF's ValidationError: the sentences are shown in the site's Webhook Request Log."""
    keys = {what: connection.body_key(what) for what in BODY_KEYS}
    name = _read_name(body, keys["document"], keys["document"])
    if keys["rows"] not in body:
        return AskedDocument(name, [AskedRow("", "", _ask(keys, body, {}, name, ""))])
    rows = body[keys["rows"]]
    if not isinstance(rows, list):
        raise ValidationError({keys["rows"]: f"{keys['rows']} must be a list of rows."})
    if len(rows) > MOST_ROWS:
        raise ValidationError({keys["rows"]: f"One webhook may ask for {MOST_ROWS} rows at most."})
    asked = [_read_row(keys, body, row, name, place) for place, row in enumerate(rows)]
    _refuse_repeated([row.row for row in asked], keys["rows"])
    return AskedDocument(name, asked)


def check_requests(
    connection: ErpnextConnection, rows: Sequence[AskedRow]
) -> list[cart_queue.CartRequest]:
    """The rows' requests as /api/cart/add takes them. Raises ValidationError or RequestRefused, by
    the row's path."""
    vendors: dict[tuple[str, str | None], Vendor | None] = {}  # most documents have one or two
    return [_check_request(connection, row, vendors) for row in rows]


def _check_request(
    connection: ErpnextConnection,
    row: AskedRow,
    vendors: dict[tuple[str, str | None], Vendor | None],
) -> cart_queue.CartRequest:
    asked = dict(row.asked)
    called, url = asked.pop("vendor"), asked["product_url"]
    where = (repr(called), http_host(url) if isinstance(url, str) else None)
    if where not in vendors:
        vendors[where] = find_vendor(called, url)
    vendor = vendors[where]
    if vendor is None:
        raise ValidationError({row.path or "vendor": _no_vendor(row)})
    try:
        checked = check_cart_add({**asked, "user_id": USER_ID, "vendor_id": vendor})
    except ValidationError as error:
        raise ValidationError({row.path: error.detail} if row.path else error.detail) from error
    item_id = checked["product_data"]["erpnext_item_id"]
    request = cart_queue.CartRequest(
        vendor=vendor,
        product_url=checked["product_url"],
        product_name=checked.get("product_name"),
        product_data=checked["product_data"],
        user_id=USER_ID,
        requested_by=connection.user,
        idempotency_key=f"{cart_queue.ERPNEXT_KEY}{item_id}",
    )
    try:
        cart_queue.check_product(request)
    except RequestRefused as error:
        raise RequestRefused(
            error.code, f"{row.path}: {error}" if row.path else str(error)
        ) from error
    return request


def find_vendor(called: Any, product_url: Any) -> Vendor | None:
    """By its id, domain or name; where none is said, the one whose shop the product is in."""
    if called in (None, ""):
        host = http_host(product_url) if isinstance(product_url, str) else None
        parts = host.split(".") if host else []
        domains = [".".join(parts[place:]) for place in range(len(parts))]
        # The longest: shop.vendor.example may be a vendor of its own.
        found = Vendor.objects.filter(domain__in=domains)
        return max(found, key=lambda vendor: len(vendor.domain), default=None)
    called = str(called)
    try:
        return Vendor.objects.filter(pk=UUID(called)).first()
    except ValueError:
        pass
    return (
        Vendor.objects.filter(domain=called.lower()).first()
        or Vendor.objects.filter(name__iexact=called).first()
    )


def _no_vendor(row: AskedRow) -> Any:
    called = row.asked["vendor"]
    sentence = (
        f"No vendor has the id, domain or name {str(called)[:100]!r}. Use one of those that "
        "GET /api/admin/vendors lists."
        if called
        else "No vendor has this product_url's host. Set the vendor up, or send its id, domain or "
        "name as vendor."
    )
    return ValidationError(sentence, code="INVALID_VENDOR").detail


def _read_row(
    keys: Mapping[str, str], body: Mapping[str, Any], row: Any, document: str, place: int
) -> AskedRow:
    path = f"{keys['rows']}[{place}]"
    if not isinstance(row, dict):
        raise ValidationError({path: "A row must be an object."})
    name = _read_name(row, keys["row"], f"{path}.{keys['row']}")
    return AskedRow(path, name, _ask(keys, row, body, document, name))


def _ask(
    keys: Mapping[str, str],
    row: Mapping[str, Any],
    rest: Mapping[str, Any],
    document: str,
    name: str,
) -> dict[str, Any]:
    """The request's parts, each from the row or else from the document."""

    def find(what: str) -> Any:
        value = row.get(keys[what])
        return rest.get(keys[what]) if value in (None, "") else value

    known = {
        "quantity": _number(find("quantity")),
        "variant": find("variant") or None,
        "price": _number(find("price")),
        "item_code": find("item_code"),
    }
    return {
        "vendor": find("vendor"),
        "product_url": find("product_url"),
        "product_name": find("product_name"),
        "product_data": {
            **{what: value for what, value in known.items() if value is not None},
            # What the request is known by at the site: an item's code is asked for many times.
            "erpnext_item_id": f"{document}/{name}" if name else document,
        },
    }


def _number(value: Any) -> Any:
    """Templates of webhooks write numbers as texts as well."""
    if not isinstance(value, str):
        return value
    try:
        number = float(value)
    except ValueError:
        return value
    return number if math.isfinite(number) else value


def _read_name(source: Mapping[str, Any], key: str, path: str) -> str:
    name = source.get(key)
    if isinstance(name, int) and not isinstance(name, bool):
        name = str(name)  # Frappe's "autoincrement" names
    if not isinstance(name, str) or not name or len(name) > LONGEST_NAME:
        raise ValidationError(
            {path: f"{path} must be the name that Frappe gave it: add the field to the webhook."}
        )
    return name


def _refuse_repeated(names: Sequence[str], path: str) -> None:
    if len(set(names)) < len(names):
        raise ValidationError({path: "Two rows have the same name. Send each row's own name."})
