"""The documents' paths."""

from django.urls import path

from vendors.api import checks, erpnext, health, migrations, queue, views

# An id is any text here: a wrong one is the view's 404, not an unknown address.
urlpatterns = [
    path("cart/add", views.CartAddView.as_view()),
    path("cart/status/<str:pk>", views.CartStatusView.as_view()),
    path("cart/retry/<str:pk>", queue.RetryView.as_view()),
    path("cart/user/<str:user_id>", queue.CartUserView.as_view()),
    path("admin/queue", queue.QueueView.as_view()),
    path("admin/queue/stats", queue.StatisticsView.as_view()),
    path("admin/queue/bulk", queue.QueueBulkView.as_view()),
    path("admin/queue/manual/<str:pk>/complete", queue.CompleteView.as_view()),
    path("admin/queue/manual/<str:pk>/fail", queue.FailView.as_view()),
    path("admin/queue/<str:pk>/cancel", queue.CancelItemView.as_view()),
    path("admin/queue/<str:pk>/manual", queue.RouteView.as_view()),
    path("admin/vendors", views.VendorsView.as_view()),
    path("admin/vendors/<str:pk>/check", checks.VendorCheckView.as_view()),
    path("admin/health", health.HealthView.as_view()),
    path("admin/vendors/<str:pk>/resume", health.VendorResumeView.as_view()),
    path("admin/vendors/<str:pk>", views.VendorView.as_view()),
    path("admin/accounts", views.AccountsView.as_view()),
    path("admin/accounts/<str:pk>/test", checks.AccountTestView.as_view()),
    path("admin/accounts/<str:pk>/migrate", migrations.MigrateView.as_view()),
    path("admin/accounts/<str:pk>/ordered", migrations.OrderedView.as_view()),
    path("admin/migrations/<str:pk>", migrations.MigrationView.as_view()),
    path("admin/migrations/<str:pk>/undo", migrations.UndoMigrationView.as_view()),
    path("admin/accounts/<str:pk>", views.AccountView.as_view()),
    path("erpnext/webhook", erpnext.ErpnextWebhookView.as_view()),
]
