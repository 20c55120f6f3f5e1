"""The trigger that makes an ERPNext line due when the status of its queue item changes.

In the database, so that it is part of every change, whoever makes it: a job, a person, a bulk act.
Items that came another way cost it one look into an index.
"""

import pgtrigger

TELL_ERPNEXT = pgtrigger.Trigger(
    name="tell_erpnext",
    when=pgtrigger.After,
    operation=pgtrigger.UpdateOf("status"),  # type: ignore[no-untyped-call]
    condition=pgtrigger.Condition("OLD.status IS DISTINCT FROM NEW.status"),
    func="""
        UPDATE erpnext_lines
        SET status = 'pending', version = version + 1, due_at = statement_timestamp(),
            attempts_before = attempt
        FROM erpnext_connections connection
        WHERE queue_item_id = NEW.id AND connection.id = connection_id
            AND connection.is_active AND connection.sends_updates;
        RETURN NULL;
    """,
)
