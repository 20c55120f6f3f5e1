"""The audit trail: who did what to which row, when and from where; the one place that knows
django-auditlog.

Changes of rows are noted for every model that is an `Audited`; what is no change of a row, or is
written past `save()`, by `note` and `note_access`. An entry is part of the transaction of its act.
No entry holds a secret: of a password it says that it changed.
"""

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import structlog
from auditlog.context import disable_auditlog
from auditlog.models import LogEntry
from auditlog.registry import auditlog
from django.apps import apps
from django.conf import settings
from django.db import models, transaction
from django.db.models.functions import Now
from django.db.models.signals import pre_save

from accounts.acting import who_acts
from accounts.fields import Sealed, SealedTextField

if TYPE_CHECKING:
    from accounts.models import User

HIDDEN = "(hidden)"
BATCH = 500  # entries that one transaction deletes


class Act(models.TextChoices):
    CREATED = "created", "Created"
    CHANGED = "changed", "Changed"
    DELETED = "deleted", "Deleted"
    NEW_SECRET = "new_secret", "New secret"
    USED = "used", "Secret used"
    REVOKED = "revoked", "Revoked"
    PAUSED = "paused", "Paused"
    RESUMED = "resumed", "Resumed"
    LIMITED = "limited", "Limit set"
    CANCELLED = "cancelled", "Cancelled"
    RERUN = "rerun", "Run again"
    SETTLED = "settled", "Settled"
    CHOSEN = "chosen", "Chosen"
    CODE_ENTERED = "code_entered", "Code entered"
    ASSIGNED = "assigned", "Message assigned"
    ENABLED = "enabled", "Enabled"
    DISABLED = "disabled", "Disabled"
    SENT_AGAIN = "sent_again", "Sent again"
    SET_ASIDE = "set_aside", "Set aside"
    UNBLOCKED = "unblocked", "Unblocked"
    MIGRATED = "migrated", "Migrated"
    UNDONE = "undone", "Undone"


# The library's four, which are indexed; ours says it exactly.
ACTIONS = {
    Act.CREATED: LogEntry.Action.CREATE,
    Act.DELETED: LogEntry.Action.DELETE,
    Act.USED: LogEntry.Action.ACCESS,
}
ACTS = {
    LogEntry.Action.CREATE: Act.CREATED,
    LogEntry.Action.UPDATE: Act.CHANGED,
    LogEntry.Action.DELETE: Act.DELETED,
    LogEntry.Action.ACCESS: Act.USED,
}


def action_of(act: Act) -> int:
    return int(ACTIONS.get(act, LogEntry.Action.UPDATE))


# ---- changes of rows ----------------------------------------------------------------------------


class Audited(models.Model):
    """Base of models whose rows people set up. Creating, changing and deleting one makes an entry;
    `update()` and the bulk methods make none, so what uses them calls `note`.

    Columns that nobody edits are the system's own and left out, and so are those named in
    NOT_AUDITED. Of a sealed column an entry says that it is new.
    """

    NOT_AUDITED: ClassVar[Collection[str]] = ()
    MASKED: ClassVar[Collection[str]] = ()  # sealed columns are, without being named

    class Meta:
        abstract = True

    def save(self, *args: Any, **options: Any) -> None:
        wanted = options.get("update_fields")
        secrets = [] if self._state.adding else _find_new_secrets(self, wanted)
        if wanted is not None and not secrets and not _open_columns(type(self)) & set(wanted):
            with disable_auditlog():  # else it would read the row once more, to compare nothing
                super().save(*args, **options)
            return
        with transaction.atomic(savepoint=False):
            super().save(*args, **options)
            if secrets:
                note(self, Act.NEW_SECRET, columns=secrets)


def register_models() -> None:
    for model in apps.get_models():
        if issubclass(model, Audited):
            auditlog.register(
                model,
                include_fields=sorted(_open_columns(model)),
                mask_fields=list(model.MASKED),
                mask_callable="accounts.audit.hide",
                m2m_fields={field.name for field in model._meta.many_to_many},
            )
    pre_save.connect(_complete, sender=LogEntry, dispatch_uid="accounts.audit")


def hide(value: str) -> str:
    """The library's own leaves half of it to be read."""
    return HIDDEN


def _open_columns(model: type[Audited]) -> set[str]:
    """Those whose values an entry may show."""
    return {field.name for field in _columns(model) if not isinstance(field, SealedTextField)}


def _columns(model: type[Audited]) -> "list[models.Field[Any, Any]]":
    return [
        field
        for field in model._meta.concrete_fields
        if field.name not in model.NOT_AUDITED
        and not field.primary_key
        and (field.editable or isinstance(field, SealedTextField))  # sealed ones never are
    ]


def _find_new_secrets(row: Audited, wanted: Collection[str] | None) -> list[str]:
    """The sealed columns that this save will write anew. Nothing is opened to compare: the old
    value may be one that no longer opens, and is replaced for that reason."""
    return [
        field.name
        for field in _columns(type(row))
        if isinstance(field, SealedTextField)
        and (wanted is None or field.name in wanted)
        and not isinstance(row.__dict__.get(field.attname), Sealed | None)
    ]


# ---- what is no change of a row -----------------------------------------------------------------


def note(
    row: models.Model,
    act: Act,
    *,
    by: "User | str | None" = None,
    called: str | None = None,
    changes: Mapping[str, tuple[Any, Any]] | None = None,
    **facts: Any,
) -> None:
    """Part of the transaction in which the act is done. `by`: who, where the request does not say;
    `called`: the row's name for people; `changes`: before and after; `facts`: no secrets.
    """
    if not transaction.get_connection().in_atomic_block:
        raise transaction.TransactionManagementError(
            f"{act} is noted outside of the transaction that does it; use transaction.atomic()."
        )
    _write(row, act, by, called, changes, facts)


def note_access(
    row: models.Model, act: Act = Act.USED, *, by: "User | None" = None, **facts: Any
) -> None:
    """That the row's secrets are read. Call it first, outside of a transaction that may fail: what
    was read stays read."""
    _write(row, act, by, None, None, facts)


def _write(
    row: models.Model,
    act: Act,
    by: "User | str | None",
    called: str | None,
    changes: Mapping[str, tuple[Any, Any]] | None,
    facts: Mapping[str, Any],
) -> None:
    user = None if by is None or isinstance(by, str) else by
    data: dict[str, Any] = {"act": act, "facts": _plain(facts)}
    if by:
        data["by"] = user.get_username() if user else by
    LogEntry.objects.log_create(
        row,
        force_log=True,
        action=action_of(act),
        actor=user,
        changes=_plain(changes) if changes else None,
        additional_data=data,
        **({"object_repr": called} if called else {}),
    )


def _plain(value: Any) -> Any:
    """As JSON can hold it."""
    match value:
        case None | bool() | int() | float():
            return value
        case Mapping():
            return {str(name): _plain(part) for name, part in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(part) for part in value]
    return str(value)


def _complete(sender: type[LogEntry], instance: LogEntry, **_: Any) -> None:
    """Fills in who, from where and when, for the library's entries and for ours.

    Instead of the library's middleware: that knows no user of REST, believes any X-Forwarded-For,
    and tells the requests of several threads apart by the clock.
    """
    if not instance._state.adding:
        return
    acting = who_acts()
    data: dict[str, Any] = {"act": ACTS[instance.action], **(instance.additional_data or {})}
    if acting.user and instance.actor_id in (None, acting.user.pk):
        instance.actor_id, data["by"] = acting.user.pk, acting.by
    data.setdefault("by", acting.by)
    data["through"] = acting.through or ("worker" if _log_id("job") else "")
    instance.additional_data = {name: value for name, value in data.items() if value}
    instance.remote_addr, instance.timestamp = acting.ip, Now()


def find_correlation_id() -> str | None:
    """What the log lines of this moment are found by: the request's id, else the job's."""
    return _log_id("request") or _log_id("job")


def _log_id(name: str) -> str | None:
    return structlog.contextvars.get_contextvars().get(name)


# ---- retention ----------------------------------------------------------------------------------


def retention() -> timedelta:
    return timedelta(days=settings.AUDIT_DAYS)


def old_entries(age: timedelta) -> models.QuerySet[LogEntry]:
    entries: models.QuerySet[LogEntry] = LogEntry.objects.filter(timestamp__lt=Now() - age)
    return entries


def delete_old_entries(age: timedelta) -> int:
    """Deletes them BATCH by BATCH, each a short transaction of its own; how many."""
    count = 0
    while ids := list(old_entries(age).order_by("timestamp").values_list("pk", flat=True)[:BATCH]):
        count += LogEntry.objects.filter(pk__in=ids).delete()[0]
    return count
