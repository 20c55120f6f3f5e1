"""The documents' paths, and those of cards, sites and vouchers."""

from django.urls import path

from payments.api import setup, views

# An id is any text here: a wrong one is the view's 404, not an unknown address.
urlpatterns = [
    path("start-job", views.StartJobView.as_view()),
    path("jobs/start-payment", views.StartPaymentView.as_view()),
    path("jobs/<str:pk>/run", views.RunView.as_view()),
    path("purchases", views.PurchasesView.as_view()),
    path("purchases/<str:pk>", views.PurchaseView.as_view()),
    path("purchases/<str:pk>/cvv", views.CvvView.as_view()),
    path("purchases/<str:pk>/otp", views.CodeView.as_view()),
    path("admin/cards", setup.CardsView.as_view()),
    path("admin/cards/<str:pk>", setup.CardView.as_view()),
    path("admin/payment-sites", setup.SitesView.as_view()),
    path("admin/payment-sites/<str:pk>", setup.SiteView.as_view()),
    path("admin/payment-accounts", setup.AccountsView.as_view()),
    path("admin/payment-accounts/<str:pk>", setup.AccountView.as_view()),
    path("vouchers/<str:pk>/reveal", views.RevealView.as_view()),
    path("vouchers/<str:pk>/redeem", views.RedeemView.as_view()),
    path("vouchers/<str:pk>/redeemed", views.RedeemedView.as_view()),
]
