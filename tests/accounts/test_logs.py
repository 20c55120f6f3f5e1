"""What is logged of an exception: where it happened, and no value that was at hand there."""

import logging
import logging.config

import pytest
import structlog
from django.conf import settings


def fail_with_a_secret_at_hand() -> None:
    password = "korrekt-Pferd-" + "Batterie"
    raise ValueError(f"It has {len(password)} characters.")


@pytest.mark.parametrize("log", [logging.getLogger("django.request"), structlog.get_logger("jobs")])
def test_logged_exception_has_its_traceback_and_no_local_value(log, capfd):
    logging.config.dictConfig(settings.LOGGING)  # a handler for the stderr that is captured here

    try:
        fail_with_a_secret_at_hand()
    except ValueError:
        log.exception("failed")

    logged = capfd.readouterr().err
    assert "fail_with_a_secret_at_hand" in logged
    assert "It has 22 characters." in logged
    assert "korrekt-Pferd-Batterie" not in logged
