"""The addresses of jobs over REST."""

from django.urls import path

from jobs.api import control, inbox, limits, views, waits, webhooks

# An id is any text here: a wrong one is the view's 404, not an unknown address.
urlpatterns = [
    path("inbox", inbox.InboxView.as_view()),
    path("effects/<str:pk>/settle", inbox.SettleView.as_view()),
    path("otp/messages/<str:pk>/assign", inbox.AssignView.as_view()),
    path("otp/inbound", waits.InboundView.as_view()),
    path("signals", waits.SignalsView.as_view()),
    path("signals/bulk", waits.SignalsBulkView.as_view()),
    path("jobs", views.JobsView.as_view()),
    path("jobs/otp-received", waits.CodeView.as_view()),
    path("jobs/bulk", control.BulkView.as_view()),
    path("jobs/<str:pk>/cancel", control.CancelView.as_view()),
    path("jobs/<str:pk>/rerun", control.RerunView.as_view()),
    path("jobs/<str:pk>/waits/<str:wait>", waits.WaitView.as_view()),
    path("jobs/<str:pk>/why", limits.WhyView.as_view()),
    path("jobs/<str:pk>", views.JobView.as_view()),
    path("jobs/<str:pk>/events", views.EventsView.as_view()),
    path("jobs/<str:pk>/stream", views.StreamView.as_view()),
    path("limits", limits.LimitsView.as_view()),
    path("limits/<str:key>", limits.LimitView.as_view()),
    path("limits/<str:key>/pause", limits.PauseView.as_view()),
    path("limits/<str:key>/resume", limits.ResumeView.as_view()),
    path("webhooks", webhooks.WebhooksView.as_view()),
    path("webhooks/<str:pk>", webhooks.WebhookView.as_view()),
    path("webhooks/<str:pk>/rotate", webhooks.RotateView.as_view()),
    path("webhooks/<str:pk>/deliveries", webhooks.DeliveriesView.as_view()),
    path("webhooks/<str:pk>/deliveries/<str:delivery>/redeliver", webhooks.RedeliverView.as_view()),
]
