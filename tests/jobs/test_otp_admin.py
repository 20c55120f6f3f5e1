import pytest

from jobs.models import InboundSource, OtpRule

pytestmark = pytest.mark.django_db

SOURCE = {"name": "Phone", "kind": "sms_gateway", "phone_number": "", "is_active": "on"}


def test_a_source_is_added_and_its_secret_never_shown(admin_client):
    admin_client.post("/admin/jobs/inboundsource/add/", SOURCE | {"new_secret": "s3cret-key"})

    source = InboundSource.objects.get()
    assert source.secret == "s3cret-key"
    page = admin_client.get(f"/admin/jobs/inboundsource/{source.pk}/change/").content.decode()
    assert f"/api/otp/inbound?source={source.pk}" in page
    assert "s3cret-key" not in page


def test_an_empty_secret_keeps_the_one_that_is_there(admin_client):
    source = InboundSource.objects.create(name="Phone", kind="sms_gateway", secret="s3cret-key")

    admin_client.post(
        f"/admin/jobs/inboundsource/{source.pk}/change/",
        SOURCE | {"name": "Old phone", "new_secret": ""},
    )

    source = InboundSource.objects.get()
    assert (source.name, source.secret) == ("Old phone", "s3cret-key")


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ({"sender": "("}, "no regular expression"),
        ({"pattern": r"\d+"}, "Name the part that is the code"),
        ({}, "needs a sender, a pattern or an origin"),
    ],
)
def test_a_rule_that_cannot_be_read_is_refused_with_the_reason(rule, sentence, admin_client):
    answer = admin_client.post("/admin/jobs/otprule/add/", {"service": "amex"} | rule)

    assert sentence in answer.content.decode()
    assert not OtpRule.objects.exists()


def test_a_rule_is_added(admin_client):
    rule = {"service": "amex", "sender": "AMEX", "pattern": r"(?P<code>\d{6})", "origin": ""}

    admin_client.post("/admin/jobs/otprule/add/", rule)

    assert OtpRule.objects.get().service == "amex"
