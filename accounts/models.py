"""People, and the keys machines call with."""

import hashlib
import hmac
import secrets
import uuid

from django.contrib.auth.models import AbstractUser
from django.db import models, transaction
from django.db.models.functions import Now
from django.utils import timezone
from uuid_utils.compat import uuid7

from accounts import audit
from accounts.audit import Act, Audited

FIRST_WORKSPACE = uuid.UUID(int=1)  # made by `apps.py` whenever the tables are


class Workspace(Audited):
    """A team: its jobs, its webhooks, and who is told what. An installation begins with one."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=100)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class User(AbstractUser, Audited):
    """A person, or a service such as ERPNext. `is_staff` is the PRD's admin role."""

    NOT_AUDITED = ("last_login", "date_joined")
    MASKED = ("password",)

    workspace = models.ForeignKey(
        Workspace, on_delete=models.PROTECT, related_name="users", default=FIRST_WORKSPACE
    )


class ApiKey(Audited):
    """A key in Frappe's form, `Authorization: token KEY:SECRET`. Only the secret's hash is kept."""

    NOT_AUDITED = ("revoked_at",)

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=100, help_text="Who calls with it, as people would say it.")
    key = models.CharField(max_length=32, unique=True, editable=False)
    secret_hash = models.CharField(max_length=64, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "API key"
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.name} ({self.key})"

    @classmethod
    def issue(cls, user: User, name: str) -> tuple["ApiKey", str]:
        """A new key and its secret, which can be shown now and never again."""
        secret = secrets.token_urlsafe(32)
        key = cls.objects.create(
            user=user, name=name, key=secrets.token_hex(8), secret_hash=_hash(secret)
        )
        return key, secret

    @staticmethod
    def revoke(keys: "models.QuerySet[ApiKey]") -> int:
        """None of these lets anybody in from now on; how many did until now."""
        with transaction.atomic():
            usable = list(keys.filter(revoked_at=None).select_for_update(of=("self",)))
            ApiKey.objects.filter(pk__in=[key.pk for key in usable]).update(revoked_at=Now())
            for key in usable:
                audit.note(key, Act.REVOKED, user=key.user)
        return len(usable)

    def accepts(self, secret: str) -> bool:
        return self.revoked_at is None and hmac.compare_digest(self.secret_hash, _hash(secret))

    def note_use(self) -> None:
        """Keep the time of the last use, to the minute: not a write for every call."""
        now = timezone.now()
        if self.last_used_at is None or (now - self.last_used_at).total_seconds() > 60:
            ApiKey.objects.filter(pk=self.pk).update(last_used_at=now)


def _hash(secret: str) -> str:
    # A fast hash is enough: the secret has 256 random bits, there is nothing to guess.
    return hashlib.sha256(secret.encode()).hexdigest()
