"""vendors_export and vendors_import: all of a file or nothing, and no password unasked."""

import copy
import json
import stat
from io import StringIO

import pytest
from auditlog.models import LogEntry
from django.core.management import CommandError, call_command

from vendors.exchange import InvalidFile, export_vendors, import_vendors
from vendors.models import Vendor, VendorAccount

PASSWORD = "korrekt-Pferd-Batterie"


def run(name, *args, **options):
    out, err = StringIO(), StringIO()
    call_command(name, *args, stdout=out, stderr=err, **options)
    return out.getvalue(), err.getvalue()


def accesses(account):
    return LogEntry.objects.get_for_object(account).filter(action=LogEntry.Action.ACCESS).count()


@pytest.fixture
def file(vendor, account):
    """As it was exported, with passwords."""
    return export_vendors([vendor], passwords=True)


def rows():
    vendors = Vendor.objects.values_list("domain", "name", "rate_limit_daily")
    return list(vendors), sorted(VendorAccount.objects.values_list("email", "notes"))


def test_export_has_the_shape_of_the_api_and_no_password(vendor, account):
    out, err = run("vendors_export")

    (data,) = json.loads(out)["vendors"]
    assert data["domain"] == "vendor.example"
    assert data["selectors"] == vendor.selectors
    assert data["accounts"] == [{"email": "one@vendor.example", "notes": ""}]
    assert not {"id", "created_at"} & set(data)
    assert (err, accesses(account)) == ("", 0)


def test_passwords_come_on_request_with_a_warning_and_an_entry_each(vendor, account):
    out, err = run("vendors_export", with_passwords=True)

    assert json.loads(out)["vendors"][0]["accounts"][0]["password"] == PASSWORD
    assert "passwords in the clear" in err
    assert accesses(account) == 1


def test_file_is_readable_by_its_owner_alone(vendor, account, tmp_path):
    path = tmp_path / "vendors.json"
    path.write_text("old")
    path.chmod(0o644)

    run("vendors_export", output=path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text())["vendors"]


def test_unknown_domain_is_refused(vendor):
    with pytest.raises(CommandError, match=r"No vendor has the domain nobody\.example"):
        run("vendors_export", "nobody.example")


def test_what_was_exported_comes_back_as_it_was(file, account):
    Vendor.objects.all().delete()

    imported = import_vendors(file)

    assert imported.created == ["Vendor Co", "one@vendor.example at Vendor Co"]
    assert export_vendors(Vendor.objects.all(), passwords=True) == file


def test_accounts_own_limit_goes_out_and_comes_in(file, account):
    file["vendors"][0]["accounts"][0]["rate_limit_daily"] = 80

    assert import_vendors(file).changed == ["one@vendor.example at Vendor Co"]

    assert VendorAccount.objects.get().rate_limit_daily == 80
    assert export_vendors(Vendor.objects.all(), passwords=True) == file
    assert import_vendors(file).changed == []


def test_importing_it_again_changes_nothing(file, account):
    account.session_data = {"kept": True}
    account.save()

    imported = import_vendors(file)

    assert (imported.created, imported.changed, len(imported.unchanged)) == ([], [], 2)
    account.refresh_from_db()
    assert account.session_data == {"kept": True}


def test_changes_are_written_and_a_new_password_ends_the_old_session(file, account):
    account.session_data = {"old": True}
    account.save()
    file["vendors"][0]["rate_limit_daily"] = 7
    file["vendors"][0]["accounts"][0]["password"] = "new"
    file["vendors"][0]["accounts"].append({"email": "two@vendor.example", "password": "p"})

    imported = import_vendors(file)

    assert imported.created == ["two@vendor.example at Vendor Co"]
    assert imported.changed == ["Vendor Co", "one@vendor.example at Vendor Co"]
    account.refresh_from_db()
    assert (account.password, account.session_data) == ("new", None)
    assert Vendor.objects.get().rate_limit_daily == 7


def test_dry_run_says_the_same_and_writes_nothing(file, tmp_path):
    file["vendors"][0]["name"] = "Renamed"
    file["vendors"][0]["accounts"].append({"email": "two@vendor.example", "password": "p"})
    path = tmp_path / "vendors.json"
    path.write_text(json.dumps(file))
    before = rows()

    out, _ = run("vendors_import", str(path), dry_run=True)

    assert "new: two@vendor.example at Renamed" in out
    assert "1 would be created, 1 would be changed, 1 as they were." in out
    assert rows() == before


def test_whole_file_is_judged_and_one_mistake_writes_nothing(file, tmp_path):
    good = copy.deepcopy(file["vendors"][0]) | {"domain": "other.example", "accounts": []}
    good |= {"login_url": None, "cart_url": None}
    bad = file["vendors"][0]
    bad["selectors"]["add_to_crat"] = ".x"
    bad["colour"] = "red"
    bad["accounts"] += [{"email": "two@vendor.example"}, {"email": "nonsense", "password": "p"}]
    file["vendors"].insert(0, good)
    path = tmp_path / "vendors.json"
    path.write_text(json.dumps(file))
    before, err = rows(), StringIO()

    with pytest.raises(CommandError, match="Nothing was written: 4 things to correct"):
        call_command("vendors_import", str(path), stderr=err, stdout=StringIO())

    assert err.getvalue().splitlines() == [
        "vendors[1] (Vendor Co): colour is no part of a vendor.",
        "vendors[1] (Vendor Co): selectors.add_to_crat: add_to_crat is no known part of a page. "
        "Did you mean add_to_cart?",
        "vendors[1] (Vendor Co): accounts[1]: password is missing; an account that is not there "
        "yet needs one.",
        "vendors[1] (Vendor Co): accounts[2]: email: Enter a valid email address.",
    ]
    assert rows() == before


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ([], "The file is one object"),
        ({"vendors": ["x"]}, "a vendor is an object"),
        ({"vendors": [], "extra": 1}, "extra is no part of the file"),
    ],
)
def test_file_of_another_shape_is_refused(db, data, sentence):
    with pytest.raises(InvalidFile, match=sentence):
        import_vendors(data)


def test_vendor_that_stands_there_twice_is_refused(file):
    file["vendors"].append(copy.deepcopy(file["vendors"][0]))

    with pytest.raises(InvalidFile, match=r"vendor\.example stands there 2 times"):
        import_vendors(file)


def test_text_that_is_no_json_is_refused(db, tmp_path):
    path = tmp_path / "broken.json"
    path.write_text("{")

    with pytest.raises(CommandError, match="is no JSON"):
        run("vendors_import", str(path))


def test_file_that_is_not_there_is_refused(db, tmp_path):
    with pytest.raises(CommandError, match="cannot be read: No such file"):
        run("vendors_import", str(tmp_path / "none.json"))
