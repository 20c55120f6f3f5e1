"""Sealing anew, under the newest key of the ring, whatever an older key has sealed.

Safe to stop and to start again: what is done is known by the key that a value names. A row that
somebody changes meanwhile is theirs; its value is under the newest key then, or found again.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from django.apps import apps
from django.db import models, transaction
from django.db.models.functions import Substr

from accounts.errors import UnsealError
from accounts.fields import Sealed, SealedTextField
from accounts.keyring import get_keyring

BATCH = 200  # rows of one transaction


@dataclass
class Tally:
    """Of one column: how many values were sealed anew, and why others do not open."""

    column: str
    done: int = 0
    left: int = 0
    problems: list[str] = field(default_factory=list)


def find_columns() -> Iterator[tuple[type[models.Model], SealedTextField]]:
    """Every sealed column there is."""
    for model in apps.get_models():
        for column in model._meta.local_concrete_fields:
            if isinstance(column, SealedTextField):
                yield model, column


def reencrypt_column(
    model: type[models.Model], column: SealedTextField, *, batch: int = BATCH, dry_run: bool = False
) -> Tally:
    """Each batch is a transaction of its own. Values that do not open are left as they are.

    With `dry_run` nothing is opened, and `left` is how many an older key has sealed.
    """
    tally = Tally(f"{model._meta.db_table}.{column.column}")
    rows = _sealed_by_older_keys(model, column)
    if dry_run:
        tally.left = rows.count()
        return tally
    found = _batch(rows, column, batch)
    while found:
        with transaction.atomic():
            for pk, blob in found:
                _seal_anew(model, column, pk, blob, tally)
        found = _batch(rows.filter(pk__gt=found[-1][0]), column, batch)
    return tally


def _sealed_by_older_keys(
    model: type[models.Model], column: SealedTextField
) -> models.QuerySet[Any]:
    newest = get_keyring().sealing_prefix
    head = Substr(column.name, 1, len(newest), output_field=models.BinaryField())
    filled = model._base_manager.exclude(**{column.name: None})
    older: models.QuerySet[Any] = filled.annotate(head=head).exclude(head=newest)
    return older.order_by("pk")


def _batch(rows: models.QuerySet[Any], column: SealedTextField, batch: int) -> list[Any]:
    return list(rows.values_list("pk", column.name)[:batch])


def _seal_anew(
    model: type[models.Model], column: SealedTextField, pk: Any, blob: Sealed, tally: Tally
) -> None:
    row = model(pk=pk)
    try:
        sealed = column.seal(row, column.unseal(row, blob))
    except UnsealError as error:
        tally.left += 1
        tally.problems.append(str(error))
        return
    # Only over the value that was read: who has written another meanwhile has the last word.
    unchanged = model._base_manager.filter(pk=pk, **{column.name: blob})
    tally.done += unchanged.update(**{column.name: sealed})
