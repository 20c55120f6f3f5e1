from django.urls import path

from jobs import views, watch

app_name = "jobs"
urlpatterns = [
    path("inbox/", views.inbox, name="inbox"),
    path("jobs/", views.job_list, name="list"),
    path("jobs/<uuid:job_id>/", views.detail, name="detail"),
    path("jobs/<uuid:job_id>/artifacts/<uuid:artifact_id>", views.artifact, name="artifact"),
    path("health", watch.health, name="health"),
    path("health/", watch.health_page, name="health_page"),
    path("health/live", watch.live, name="live"),
    path("metrics", watch.metrics, name="metrics"),
]
