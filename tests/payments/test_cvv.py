import uuid
from datetime import timedelta

import pytest

from payments import cvv
from payments.errors import CvvUnreachable, InvalidCard

PURCHASE = uuid.UUID(int=7)
OTHER = uuid.UUID(int=8)


def test_cvv_stands_sealed_in_valkey_for_its_time_and_is_found_by_its_purchase_alone(broker):
    cvv.keep(PURCHASE, "9876", timedelta(minutes=5))

    (name,) = broker.keys("*")
    assert b"9876" not in broker.dump(name)
    assert 290 <= broker.ttl(name) <= 300
    assert cvv.find(PURCHASE) == "9876"
    assert cvv.find(OTHER) is None


def test_cvv_is_kept_two_hours_where_nothing_else_is_said(broker):
    cvv.keep(PURCHASE, "9876")

    assert 7190 <= broker.ttl(f"cartwright:cvv:{PURCHASE}") <= 7200


def test_newer_cvv_is_in_place_of_the_earlier_one(broker):
    cvv.keep(PURCHASE, "1111")
    cvv.keep(PURCHASE, "2222")

    assert cvv.find(PURCHASE) == "2222"


def test_erased_cvv_is_gone_and_to_erase_it_twice_is_harmless(broker):
    cvv.keep(PURCHASE, "9876")

    cvv.erase(PURCHASE)
    cvv.erase(PURCHASE)

    assert cvv.find(PURCHASE) is None
    assert broker.keys("*") == []


def test_value_that_was_copied_to_another_purchase_does_not_open(broker):
    cvv.keep(PURCHASE, "9876")

    broker.copy(f"cartwright:cvv:{PURCHASE}", f"cartwright:cvv:{OTHER}")

    assert cvv.find(OTHER) is None


def test_what_is_no_cvv_is_not_kept(broker):
    with pytest.raises(InvalidCard):
        cvv.keep(PURCHASE, "12")

    assert broker.keys("*") == []


def test_valkey_that_is_away_is_said_by_name(settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"

    for call in (lambda: cvv.keep(PURCHASE, "9876"), lambda: cvv.find(PURCHASE)):
        with pytest.raises(CvvUnreachable, match="try again in a moment"):
            call()
