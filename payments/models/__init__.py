"""The tables of voucher purchases. Import them from here."""

from payments.models.cards import Card
from payments.models.purchases import Transaction, VoucherPurchase, VoucherPurchaseQuerySet
from payments.models.sessions import AuthSession
from payments.models.sites import PaymentSite, PaymentSiteQuerySet, SiteAccount
from payments.models.vouchers import VoucherCode

__all__ = [
    "AuthSession",
    "Card",
    "PaymentSite",
    "PaymentSiteQuerySet",
    "SiteAccount",
    "Transaction",
    "VoucherCode",
    "VoucherPurchase",
    "VoucherPurchaseQuerySet",
]
