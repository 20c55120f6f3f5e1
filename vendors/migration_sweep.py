"""What the scheduler does for migrations: begins those of vendors whose switch `migrate_on_block`
is on, and has people told of what could not be moved.

By the rows alone: a block that was seen while no scheduler ran is found the next time. Safe at once
in several schedulers: the second waits for the lines that the first has locked, and finds its
moves.
"""

import uuid
from datetime import timedelta

import structlog
from django.db.models import Exists, OuterRef

from jobs.duties import register_duty
from vendors import alerts, migration, pool
from vendors.alerts import Kind
from vendors.errors import MigrationRefused
from vendors.health_sweep import AUTOMATED
from vendors.models import CartItem, CartMove, Vendor, VendorAccount

log = structlog.get_logger(__name__)

EVERY = timedelta(seconds=10)  # people wait for what stood in the blocked account's cart


def sweep_migrations() -> None:
    migrate_blocked()
    check_failed_moves()


def migrate_blocked() -> int:
    """How many migrations it has begun."""
    in_cart = CartItem.objects.in_cart().filter(vendor_account=OuterRef("pk"))
    vendors = Vendor.objects.filter(AUTOMATED, migrate_on_block=True)
    blocked = VendorAccount.objects.filter(Exists(in_cart), is_blocked=True, vendor__in=vendors)
    ids = list(blocked.order_by("pk").values_list("pk", flat=True))
    return sum(_migrate(account_id) for account_id in ids)


def _migrate(account_id: uuid.UUID) -> bool:
    try:
        begun = migration.start_migration(account_id, by=alerts.SYSTEM, untried=True)
    except (MigrationRefused, VendorAccount.DoesNotExist) as error:
        # Mostly: all of it was begun before. No replacement: the block's own alert is open.
        log.debug("migration_refused", account=str(account_id), reason=str(error))
        return False
    return not begun.is_replay


def check_failed_moves() -> None:
    """An alert for each account with lines that a person has to look at, until there are none."""
    failed = CartMove.objects.filter(
        status=CartMove.Status.FAILED,
        line__replaced_at=None,
        line__gone_at=None,
        line__vendor_account=OuterRef("pk"),
    )
    stuck = VendorAccount.objects.filter(Exists(failed)).select_related("vendor")
    told = alerts.open_alerts(Kind.MOVES)
    for account in stuck.exclude(pk__in=told.values("account")).defer(*pool.SECRETS):
        alerts.open_alert(
            Kind.MOVES,
            account.vendor,
            f"Not all that stood in the cart of {account} at {account.vendor} could be moved to "
            "another account. Its migration's page says why: run those jobs again, undo the "
            "migration and begin another, or order these items elsewhere and mark them as gone.",
            account=account,
        )
    for alert in told.exclude(account__in=stuck.values("pk")):
        alerts.close_alert(alert, "Nothing of it waits for a person any more.")


register_duty("vendor_migrations", sweep_migrations, every=EVERY)
