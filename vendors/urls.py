from django.urls import path

from vendors import health_page, views

app_name = "vendors"
urlpatterns = [
    path("queue/", views.queue, name="queue"),
    path("vendors/health/", health_page.health, name="health"),
    path("vendors/<uuid:vendor_id>/resume", health_page.resume, name="resume"),
]
