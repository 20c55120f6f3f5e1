"""Descriptions of sites from a file: one, as a site's owner writes it, or a list of them.

A file is judged as a whole before a row is written, and written in one transaction. A site is known
again by its kind and domain; what the file does not name is left alone.
"""

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from payments.models import PaymentSite
from vendors.exchange import Imported, InvalidFile

COLUMNS = ("kind", "name", "domain", "is_active")  # the rest of a description is its data


def import_sites(data: Any, *, kind: str | None = None, dry_run: bool = False) -> Imported:
    """`data`: one description, or `{"sites": [...]}`; `kind`: of those that do not say it.

    Writes all of it or, if anything is wrong, nothing. Raises InvalidFile.
    """
    found = [_read(where, each, kind) for where, each in _descriptions(data)]
    if problems := [sentence for _, sentences in found for sentence in sentences]:
        raise InvalidFile(problems)
    imported = Imported()
    with transaction.atomic():
        for site, _ in found:
            _write(site, imported)
        if dry_run:
            transaction.set_rollback(True)
    return imported


def _descriptions(data: Any) -> list[tuple[str, Any]]:
    if isinstance(data, Mapping) and isinstance(data.get("sites"), list):
        return [(f"sites[{place}]: ", each) for place, each in enumerate(data["sites"])]
    return [("", data)]


def _read(where: str, data: Any, kind: str | None) -> tuple[PaymentSite, list[str]]:
    site = PaymentSite()
    if not isinstance(data, Mapping):
        return site, [f"{where}a site is an object with name, domain, urls and selectors."]
    site.kind = str(data.get("kind") or kind or "")
    if site.kind not in PaymentSite.Kind:
        known = ", ".join(PaymentSite.Kind)
        return site, [f"{where}say what it is: kind must be one of {known}."]
    site.name, site.domain = str(data.get("name") or ""), str(data.get("domain") or "")
    site.data = {key: value for key, value in data.items() if key not in COLUMNS}
    try:
        site.clean()
    except ValidationError as error:
        return site, [
            f"{where}{name}: {sentence}" if name != "data" else f"{where}{sentence}"
            for name, sentences in error.message_dict.items()
            for sentence in sentences
        ]
    return site, []


def _write(site: PaymentSite, imported: Imported) -> None:
    label = f"{site.get_kind_display()} {site} ({site.domain})"
    old = PaymentSite.objects.filter(kind=site.kind, domain=site.domain).first()
    if old is None:
        site.save(force_insert=True)
        imported.created.append(label)
    elif (old.name, old.data) == (site.name, site.data):
        imported.unchanged.append(label)
    else:
        old.name, old.data = site.name, site.data
        old.save(update_fields=["name", "data"])
        imported.changed.append(label)
