from django.urls import path

from payments import views

app_name = "payments"
urlpatterns = [
    path("purchases/", views.purchases, name="list"),
    path("purchases/new", views.new, name="new"),
    path("purchases/<uuid:purchase_id>/", views.detail, name="detail"),
]
