"""Vendors and their accounts as one JSON file, in the shape of the API: written and read.

A file is judged as a whole before a row is written, and written in one transaction. A vendor is
known again by its domain, an account by its e-mail at its vendor; what the file does not name is
left alone.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction

from accounts import audit
from vendors import pool
from vendors.api.serializers import NewAccountSerializer, VendorSerializer
from vendors.models import Vendor, VendorAccount

LEFT_OUT = ("id", "created_at")  # a vendor's own here, not a fact about the shop
ACCOUNT_KEYS = ("email", "password", "notes", "rate_limit_daily")


class InvalidFile(Exception):
    """Nothing was written. `problems`: a sentence for each, with the place in the file."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass
class Imported:
    """What an import has written, or would write."""

    created: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Entry:
    """A vendor of the file that may be written, and its accounts."""

    vendor: VendorSerializer
    accounts: list[Mapping[str, Any]]

    @property
    def domain(self) -> str:
        return str(self.vendor.validated_data["domain"])


# ---- writing a file ------------------------------------------------------------------------------


def export_vendors(vendors: Iterable[Vendor], *, passwords: bool = False) -> dict[str, Any]:
    """With `passwords` each of them is opened, and noted in the audit trail."""
    return {"vendors": [_vendor_data(vendor, passwords=passwords) for vendor in vendors]}


def _vendor_data(vendor: Vendor, *, passwords: bool) -> dict[str, Any]:
    data = {
        key: value for key, value in VendorSerializer(vendor).data.items() if key not in LEFT_OUT
    }
    accounts = vendor.accounts.defer("session_data").order_by("email")
    data["accounts"] = [_account_data(each, passwords=passwords) for each in accounts]
    return data


def _account_data(account: VendorAccount, *, passwords: bool) -> dict[str, Any]:
    data: dict[str, Any] = {"email": account.email, "notes": account.notes}
    if account.rate_limit_daily is not None:
        data["rate_limit_daily"] = account.rate_limit_daily
    if passwords:
        audit.note_access(account, why="exported")
        data["password"] = account.password
    return data


# ---- reading one ---------------------------------------------------------------------------------


def import_vendors(data: Any, *, dry_run: bool = False) -> Imported:
    """Writes all of the file or, if anything in it is wrong, nothing. Raises InvalidFile.

    With `dry_run` it is judged and nothing is written.
    """
    entries = _read(data)
    imported = Imported()
    with transaction.atomic():
        for entry in entries:
            _write(entry, imported)
        if dry_run:
            transaction.set_rollback(True)
    return imported


def _read(data: Any) -> list[_Entry]:
    vendors = data.get("vendors") if isinstance(data, dict) else None
    if not isinstance(vendors, list):
        raise InvalidFile(['The file is one object: {"vendors": [...]}, as vendors_export writes.'])
    problems = [
        f"{key} is no part of the file; it has vendors only." for key in data if key != "vendors"
    ]
    existing = {vendor.domain: vendor for vendor in Vendor.objects.all()}
    entries = []
    for place, vendor in enumerate(vendors):
        where = f"vendors[{place}]"
        if not isinstance(vendor, dict):
            problems.append(f"{where}: a vendor is an object.")
            continue
        entry, found = _read_vendor(where, dict(vendor), existing)
        problems += found
        if entry is not None:
            entries.append(entry)
    problems += [
        f"The domain {domain} stands there {count} times; a vendor stands there once."
        for domain, count in Counter(entry.domain for entry in entries).items()
        if count > 1
    ]
    if problems:
        raise InvalidFile(problems)
    return entries


def _read_vendor(
    where: str, data: dict[str, Any], existing: Mapping[str, Vendor]
) -> tuple[_Entry | None, list[str]]:
    accounts = data.pop("accounts", None) or []
    if name := data.get("name"):
        where = f"{where} ({name})"
    unknown = set(data) - set(VendorSerializer().fields)
    problems = [f"{where}: {key} is no part of a vendor." for key in sorted(unknown)]
    old = existing.get(str(data.get("domain")))
    serializer = VendorSerializer(old, data=data)
    if not serializer.is_valid():
        problems += [f"{where}: {sentence}" for sentence in _sentences(serializer.errors)]
    if not isinstance(accounts, list):
        return None, [*problems, f"{where}: accounts is a list."]
    known = set(old.accounts.values_list("email", flat=True)) if old else set()
    for place, account in enumerate(accounts):
        spot = f"{where}: accounts[{place}]"
        problems += [f"{spot}: {sentence}" for sentence in _account_problems(account, known)]
    emails = [each["email"] for each in accounts if isinstance(each, dict) and "email" in each]
    problems += [
        f"{where}: the account {email} stands there {count} times."
        for email, count in Counter(map(str, emails)).items()
        if count > 1
    ]
    return (None if problems else _Entry(serializer, accounts)), problems


def _account_problems(account: Any, known: set[str]) -> Iterator[str]:
    if not isinstance(account, dict):
        yield "an account is an object with email and password."
        return
    for key in sorted(set(account) - set(ACCOUNT_KEYS)):
        yield f"{key} is no part of an account; it has {', '.join(ACCOUNT_KEYS)}."
    fields = NewAccountSerializer().fields
    for key in ("email", "password", "rate_limit_daily"):
        if account.get(key) is None:
            if key == "email" or (key == "password" and account.get("email") not in known):
                yield f"{key} is missing; an account that is not there yet needs one."
            continue
        try:
            fields[key].run_validation(account[key])
        except Exception as error:  # noqa: BLE001  DRF's or Django's, with the same attribute
            yield f"{key}: {' '.join(_sentences(getattr(error, 'detail', [str(error)])))}"
    if not isinstance(account.get("notes", ""), str):
        yield "notes is a text."


def _sentences(detail: Any, path: str = "") -> list[str]:
    if isinstance(detail, Mapping):
        return [
            sentence
            for key, inner in detail.items()
            for sentence in _sentences(inner, f"{path}.{key}".lstrip("."))
        ]
    if isinstance(detail, list):
        return [sentence for inner in detail for sentence in _sentences(inner, path)]
    return [f"{path}: {detail}" if path else str(detail)]


def _write(entry: _Entry, imported: Imported) -> None:
    old = entry.vendor.instance
    before = _comparable(old) if old else None
    vendor = entry.vendor.save()
    _count(imported, str(vendor), is_new=before is None, is_changed=before != _comparable(vendor))
    for data in entry.accounts:
        _write_account(vendor, data, imported)
    pool.wake_waiting_on_commit(vendor.pk)


def _comparable(vendor: Vendor) -> dict[str, Any]:
    return dict(VendorSerializer(vendor).data)


def _write_account(vendor: Vendor, data: Mapping[str, Any], imported: Imported) -> None:
    account = vendor.accounts.filter(email=data["email"]).first()
    name = f"{data['email']} at {vendor}"
    if account is None:
        VendorAccount.objects.create(
            vendor=vendor,
            email=data["email"],
            password=data["password"],
            notes=data.get("notes", ""),
            rate_limit_daily=data.get("rate_limit_daily"),
        )
        _count(imported, name, is_new=True, is_changed=True)
        return
    fields = []
    if data.get("password") is not None and data["password"] != account.password:
        # The saved session is the old password's.
        account.password, account.session_data = data["password"], None
        fields += ["password", "session_data"]
    for key in ("notes", "rate_limit_daily"):
        if data.get(key, getattr(account, key)) != getattr(account, key):
            setattr(account, key, data[key])
            fields.append(key)
    if fields:
        account.save(update_fields=fields)
    _count(imported, name, is_new=False, is_changed=bool(fields))


def _count(imported: Imported, name: str, *, is_new: bool, is_changed: bool) -> None:
    if is_new:
        imported.created.append(name)
    elif is_changed:
        imported.changed.append(name)
    else:
        imported.unchanged.append(name)
