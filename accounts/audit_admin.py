"""The audit trail as a page: to look at, filter and search. Nobody writes here."""

from collections.abc import Iterator, Sequence
from typing import Any

from auditlog.models import LogEntry
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.contrib.contenttypes.models import ContentType
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import NoReverseMatch, reverse
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.text import Truncator, capfirst
from django.utils.timezone import localtime
from unfold.admin import ModelAdmin
from unfold.decorators import display

from accounts.audit import Act, action_of
from accounts.models import User

COLOURS = {
    Act.DELETED: "danger",
    Act.REVOKED: "danger",
    Act.CANCELLED: "danger",
    Act.NEW_SECRET: "warning",
    Act.USED: "info",
    Act.CREATED: "success",
}
NOBODY = "none"

admin.site.unregister(LogEntry)  # the library's own page


class ActFilter(admin.SimpleListFilter):
    title = "action"
    parameter_name = "act"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return Act.choices

    def queryset(self, request: HttpRequest, entries: QuerySet[LogEntry]) -> QuerySet[LogEntry]:
        value = self.value() or ""
        if value not in Act.values:
            return entries
        act = Act(value)
        return entries.filter(action=action_of(act), additional_data__act=act)


class ActorFilter(admin.SimpleListFilter):
    title = "who"
    parameter_name = "actor"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        # Asked of an index for each user: DISTINCT would read the whole trail for every page.
        acted = User.objects.filter(Exists(LogEntry.objects.filter(actor=OuterRef("pk"))))
        names = acted.order_by("username").values_list("pk", "username")
        return [(NOBODY, "No user: a worker, a command"), *((str(pk), name) for pk, name in names)]

    def queryset(self, request: HttpRequest, entries: QuerySet[LogEntry]) -> QuerySet[LogEntry]:
        value = self.value() or ""
        if value == NOBODY:
            return entries.filter(actor=None)
        return entries.filter(actor=int(value)) if value.isdecimal() else entries


class TypeFilter(admin.SimpleListFilter):
    title = "what"
    parameter_name = "type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        used = ContentType.objects.filter(
            Exists(LogEntry.objects.filter(content_type=OuterRef("pk")))
        )
        return sorted(((str(each.pk), capfirst(each.name)) for each in used), key=lambda it: it[1])

    def queryset(self, request: HttpRequest, entries: QuerySet[LogEntry]) -> QuerySet[LogEntry]:
        value = self.value() or ""
        return entries.filter(content_type=int(value)) if value.isdecimal() else entries


@admin.register(LogEntry)
class AuditAdmin(ModelAdmin):
    list_display = ["time", "who", "act", "kind", "row", "summary", "remote_addr"]
    list_filter = [ActFilter, ActorFilter, TypeFilter, "timestamp"]
    list_select_related = ["content_type", "actor"]
    search_fields = ["object_repr", "actor__username", "=object_pk", "=cid", "=remote_addr"]
    search_help_text = (
        "What it is called, who did it; or whole: an id, the id of a request or a job, an address."
    )
    ordering = ["-timestamp", "-id"]
    show_full_result_count = False
    fieldsets = [
        (None, {"fields": ["time", "who", "through", "remote_addr", "cid"]}),
        ("What", {"fields": ["act", "kind", "row", "object_pk"]}),
        ("How", {"fields": ["changed", "facts"]}),
    ]
    readonly_fields = ["time", "who", "through", "act", "kind", "row", "changed", "facts"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @display(description="Time", ordering="timestamp")
    def time(self, entry: LogEntry) -> str:
        shown = date_format(localtime(entry.timestamp), "j M Y, H:i:s")
        return format_html('<span class="whitespace-nowrap">{}</span>', shown)

    @display(description="Who")
    def who(self, entry: LogEntry) -> str:
        data = _data(entry)
        return str(data.get("by") or entry.actor or data.get("through", "system").capitalize())

    @display(description="Through")
    def through(self, entry: LogEntry) -> str:
        return str(_data(entry).get("through", "-"))

    @display(description="Action")
    def act(self, entry: LogEntry) -> str:
        act = Act(_data(entry)["act"])
        label = {"text": act.label, "type": COLOURS.get(act)}
        return render_to_string("unfold/helpers/label.html", label)

    @display(description="What")
    def kind(self, entry: LogEntry) -> str:
        return str(capfirst(entry.content_type.name))

    @display(description="Called")
    def row(self, entry: LogEntry) -> str:
        name: str = Truncator(entry.object_repr).chars(56)
        app, model = entry.content_type.app_label, entry.content_type.model
        try:
            url = reverse(f"admin:{app}_{model}_change", args=[quote(entry.object_pk)])
        except NoReverseMatch:
            return name
        return format_html('<a class="text-link" href="{}">{}</a>', url, name)

    @display(description="Details")
    def summary(self, entry: LogEntry) -> str:
        known = _data(entry).get("facts", {}).items()
        facts = (f"{name}: {_shown(value)}" for name, value in known if _shown(value))
        names = [name for name, _, _ in _changes(entry)]
        return Truncator(", ".join([*names, *facts])).chars(80) or "-"

    @display(description="Changes")
    def changed(self, entry: LogEntry) -> str:
        return _table(("Column", "Before", "After"), list(_changes(entry)))

    @display(description="Facts")
    def facts(self, entry: LogEntry) -> str:
        rows = [(name, _shown(value)) for name, value in _data(entry).get("facts", {}).items()]
        return _table(("", ""), rows)


def _data(entry: LogEntry) -> dict[str, Any]:
    return {"act": Act.CHANGED, **(entry.additional_data or {})}


def _changes(entry: LogEntry) -> Iterator[tuple[str, str, str]]:
    """Column, before and after; of columns that hold a mapping only what differs in it."""
    for name, change in sorted((entry.changes or {}).items()):
        match change:
            case {"operation": operation, "objects": names}:  # rows that belong to it
                yield name, "", f"{operation}: {', '.join(names)}"
            case [dict() as before, dict() as after]:
                for key in sorted(before.keys() | after.keys()):
                    if before.get(key) != after.get(key):
                        yield f"{name}.{key}", _shown(before.get(key)), _shown(after.get(key))
            case [before, after] if _shown(before) or _shown(after):
                yield name, _shown(before), _shown(after)


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return "-"
    cell = '<td class="pr-6 py-1 align-top whitespace-pre-wrap break-words">{}</td>'
    title = '<th class="pr-6 py-1 text-left font-semibold">{}</th>'
    return format_html(
        "<table><tr>{}</tr>{}</table>",
        format_html_join("", title, ((each,) for each in head)),
        format_html_join(
            "",
            "<tr>{}</tr>",
            ((format_html_join("", cell, ((part,) for part in row)),) for row in rows),
        ),
    )
