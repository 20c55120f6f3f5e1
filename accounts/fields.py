"""Model fields whose value is sealed in the database and opened only when it is read.

Opening on attribute access, not on load, keeps lists and joins free of plain secrets, and is what
makes the row's id available as associated data.
"""

import json
from typing import Any

from django.db import models

from accounts.keyring import Place, get_keyring


class Sealed(bytes):
    """A value as it stands in the database."""


class _SealedAttribute:
    def __init__(self, field: "SealedTextField") -> None:
        self.field = field

    def __get__(self, instance: models.Model | None, owner: type[models.Model]) -> Any:
        if instance is None:
            return self
        name = self.field.attname
        if name not in instance.__dict__:  # a deferred field
            instance.refresh_from_db(fields=[name])
        value = instance.__dict__[name]
        return self.field.unseal(instance, value) if isinstance(value, Sealed) else value

    def __set__(self, instance: models.Model, value: Any) -> None:
        instance.__dict__[self.field.attname] = value


class SealedTextField(models.BinaryField):  # type: ignore[type-arg]  # not generic at run time
    """Text, sealed with AES-256-GCM for its own table, row and column (`accounts.keyring`).

    The model's primary key must be known before the row is saved: a UUID made by the client.
    """

    def contribute_to_class(
        self, cls: type[models.Model], name: str, private_only: bool = False
    ) -> None:
        super().contribute_to_class(cls, name, private_only=private_only)
        setattr(cls, self.attname, _SealedAttribute(self))

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Sealed | None:
        return None if value is None else Sealed(value)

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        value = model_instance.__dict__[self.attname]
        if value is None or isinstance(value, Sealed):
            return value
        # Kept sealed from now on, so that a plain value is always one that is not saved yet.
        sealed = model_instance.__dict__[self.attname] = self.seal(model_instance, value)
        return sealed

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        if value is not None and not isinstance(value, Sealed):
            # update() and bulk_update() bypass pre_save: they would store the plain text.
            raise TypeError(f"{self} is sealed when its row is saved; set it and call save().")
        return super().get_db_prep_value(value, connection, prepared)

    def to_python(self, value: Any) -> Any:
        return value  # BinaryField's would take a text for base64, in full_clean()

    def seal(self, instance: models.Model, value: Any) -> Sealed:
        return Sealed(get_keyring().seal(self.encode(value), self._place(instance)))

    def unseal(self, instance: models.Model, blob: Sealed) -> Any:
        return self.decode(get_keyring().unseal(blob, self._place(instance)))

    def _place(self, instance: models.Model) -> Place:
        return Place(self.model._meta.db_table, str(instance.pk), str(self.column))

    def encode(self, value: Any) -> bytes:
        return str(value).encode()

    def decode(self, plain: bytes) -> Any:
        return plain.decode()


class SealedJSONField(SealedTextField):
    """Any JSON value, sealed."""

    def encode(self, value: Any) -> bytes:
        return json.dumps(value, separators=(",", ":")).encode()

    def decode(self, plain: bytes) -> Any:
        return json.loads(plain)
