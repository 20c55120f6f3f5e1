"""The documents' paths."""

from django.urls import path

from vendors.api import views

# An id is any text here: a wrong one is the view's 404, not an unknown address.
urlpatterns = [
    path("cart/add", views.CartAddView.as_view()),
    path("cart/status/<str:pk>", views.CartStatusView.as_view()),
    path("admin/vendors", views.VendorsView.as_view()),
    path("admin/vendors/<str:pk>", views.VendorView.as_view()),
    path("admin/accounts", views.AccountsView.as_view()),
    path("admin/accounts/<str:pk>", views.AccountView.as_view()),
]
