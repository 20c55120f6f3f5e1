"""Each saved state of a vendor's data is kept, can be compared, and can be restored."""

import pytest
from django.core.exceptions import ValidationError
from django.urls import reverse

from accounts.models import User
from tests.jobs.rivals import elsewhere
from vendors.models import Vendor, VendorVersion


def numbers(vendor) -> list[int]:
    return sorted(vendor.versions.values_list("number", flat=True))


def change(vendor, **selectors) -> Vendor:
    vendor.selectors = vendor.selectors | selectors
    vendor.save()
    return vendor


def test_each_change_is_a_version_and_a_save_without_one_is_none(vendor):
    change(vendor, add_to_cart="#buy")
    vendor.save()
    vendor.rate_limit_daily = 7
    vendor.save(update_fields=["rate_limit_daily"])

    assert numbers(vendor) == [1, 2, 3]
    assert vendor.versions.get(number=1).data["selectors"]["add_to_cart"] == ".add"
    assert vendor.versions.get(number=2).changed_keys == ["selectors.add_to_cart"]
    assert vendor.versions.get(number=3).changed_keys == ["rate_limit_daily"]


def test_version_says_who_saved_it(admin_api, vendor):
    data = {"name": "Renamed", "domain": "vendor.example"}

    assert admin_api.put(f"/api/admin/vendors/{vendor.pk}", data, format="json").status_code == 200

    newest = vendor.versions.first()
    assert (newest.number, newest.saved_by) == (2, "operations")
    assert newest.saved_by_user == User.objects.get(username="operations")
    assert newest.data["name"] == "Renamed"


def test_refused_data_makes_no_version(admin_api, vendor):
    data = {"name": "V", "domain": "vendor.example", "selectors": {"add_to_crat": "#x"}}

    answer = admin_api.put(f"/api/admin/vendors/{vendor.pk}", data, format="json")

    assert answer.status_code == 400
    assert "Did you mean add_to_cart?" in answer.json()["error"]
    assert numbers(vendor) == [1]


def test_difference_shows_the_lines_that_changed_and_no_others(vendor):
    change(vendor, add_to_cart="#buy")
    newest = vendor.versions.first()

    lines = newest.diff_to(newest.find_former().data).splitlines()

    changed = [line for line in lines if line[0] in "+-" and line[:3] not in ("+++", "---")]
    assert changed == ['-    "add_to_cart": ".add",', '+    "add_to_cart": "#buy",']


def test_restoring_saves_the_old_data_as_a_version_of_its_own(vendor):
    first = vendor.versions.get()
    change(vendor, add_to_cart="#buy")

    vendor.restore(first)

    vendor.refresh_from_db()
    assert vendor.selectors["add_to_cart"] == ".add"
    assert numbers(vendor) == [1, 2, 3]
    assert vendor.versions.get(number=3).data == first.data


def test_version_that_would_be_refused_now_is_not_restored(vendor):
    VendorVersion.objects.filter(vendor=vendor).update(data={"selectors": {"add_to_crat": "#x"}})

    with pytest.raises(ValidationError, match="Did you mean add_to_cart"):
        vendor.restore(vendor.versions.get())

    vendor.refresh_from_db()
    assert vendor.selectors["add_to_cart"] == ".add"
    assert numbers(vendor) == [1]


@pytest.mark.django_db(transaction=True)
def test_two_who_save_at_once_make_a_version_each(vendor):
    one, two = Vendor.objects.get(), Vendor.objects.get()

    elsewhere(lambda: change(one, add_to_cart="#one"), lambda: change(two, add_to_cart="#two"))

    assert numbers(vendor) == [1, 2, 3]
    vendor.refresh_from_db()
    assert vendor.versions.first().data == vendor.versioned_data()


# ---- the pages -----------------------------------------------------------------------------------

VERSIONS = "admin:vendors_vendorversion_changelist"


def restore(client, *versions):
    body = {"action": "restore", "_selected_action": [each.pk for each in versions]}
    return client.post(reverse(VERSIONS), body, follow=True)


def test_page_of_the_vendor_leads_to_its_versions(vendor, admin_client):
    change(vendor, add_to_cart="#buy")

    page = admin_client.get(reverse("admin:vendors_vendor_change", args=[vendor.pk]))

    assert "Version 2, saved" in page.content.decode()
    listed = admin_client.get(reverse(VERSIONS), {"vendor__id__exact": str(vendor.pk)})
    assert "selectors.add_to_cart" in listed.content.decode()


def test_page_of_a_version_shows_what_it_changed(vendor, admin_client):
    change(vendor, add_to_cart="#buy<b>")

    url = reverse("admin:vendors_vendorversion_change", args=[vendor.versions.first().pk])
    page = admin_client.get(url).content.decode()

    assert "+    &quot;add_to_cart&quot;: &quot;#buy&lt;b&gt;&quot;" in page


def test_version_is_restored_on_its_page_by_who_may_change_vendors(vendor, admin_client):
    first = vendor.versions.get()
    change(vendor, add_to_cart="#buy")

    page = restore(admin_client, first)

    assert "version 1 was restored." in page.content.decode()
    vendor.refresh_from_db()
    assert vendor.selectors["add_to_cart"] == ".add"
    assert vendor.versions.first().saved_by == "admin"


def test_two_versions_at_once_are_not_restored(vendor, admin_client):
    change(vendor, add_to_cart="#buy")

    page = restore(admin_client, *vendor.versions.all())

    assert "Select one version to restore." in page.content.decode()
    assert numbers(vendor) == [1, 2]


def test_who_may_only_look_cannot_restore(vendor, client, django_user_model):
    first = vendor.versions.get()
    change(vendor, add_to_cart="#buy")
    client.force_login(django_user_model.objects.create_user("charlie", is_staff=True))

    restore(client, first)

    assert numbers(vendor) == [1, 2]


def test_versions_go_with_their_vendor_and_not_alone(vendor, admin_client):
    version = vendor.versions.get()
    alone = reverse("admin:vendors_vendorversion_delete", args=[version.pk])
    assert admin_client.post(alone, {"post": "yes"}).status_code == 403

    url = reverse("admin:vendors_vendor_delete", args=[vendor.pk])
    assert admin_client.post(url, {"post": "yes"}).status_code == 302

    assert not VendorVersion.objects.exists()
