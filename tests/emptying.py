"""Empties the database after tests that commit, by what they have left behind.

Django truncates all tables, of which a test fills a handful, and sets up content types and
permissions anew: for a thousand tests that is minutes. What has grown large is left to it.
"""

from django.db import connection, transaction
from django.test import TransactionTestCase

from accounts.apps import make_first_workspace

KEPT = {"django_migrations", "django_content_type", "auth_permission"}
LARGE = 512 * 1024  # bytes: deleted rows take room until the table is vacuumed

django_flush = TransactionTestCase._fixture_teardown


def empty_tables(case: TransactionTestCase) -> None:
    filled, size = _find_filled()
    if size > LARGE or case.reset_sequences:
        django_flush(case)
        return
    with transaction.atomic(), connection.cursor() as cursor:
        # Neither foreign keys nor triggers have a say.
        cursor.execute("SET LOCAL session_replication_role = replica")
        for table in filled:
            cursor.execute(f"DELETE FROM {connection.ops.quote_name(table)}")
    make_first_workspace(using=connection.alias)


def _find_filled() -> tuple[list[str], int]:
    """The tables with rows, and the size of the largest of all."""
    quote = connection.ops.quote_name
    names = connection.introspection.django_table_names(only_existing=True, include_views=False)
    asked = " UNION ALL ".join(
        f"SELECT '{name}', EXISTS (SELECT FROM {quote(name)}), pg_relation_size('{quote(name)}')"
        for name in names
        if name not in KEPT
    )
    with connection.cursor() as cursor:
        cursor.execute(asked)
        rows = cursor.fetchall()
    return [name for name, is_filled, _ in rows if is_filled], max(size for *_, size in rows)
