from django.contrib import admin
from django.urls import include, path, re_path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from accounts.api.errors import unknown_path
from accounts.api.tokens import TokenRefreshView, TokenView

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="vendors:queue")),
    path("admin/", admin.site.urls),
    path("api/token", TokenView.as_view(), name="token"),
    path("api/token/refresh", TokenRefreshView.as_view(), name="token-refresh"),
    path("api/schema/", SpectacularAPIView.as_view(), name="api-schema"),
    path("api/docs/", SpectacularSwaggerView.as_view(url_name="api-schema"), name="api-docs"),
    # First: each address before them is looked at for each of the requests that come in numbers.
    path("api/", include("vendors.api.urls")),
    # Before those of jobs, whose /api/jobs/ID would take the documents' paths for an id.
    path("api/", include("payments.api.urls")),
    path("api/", include("jobs.api.urls")),
    re_path("^api/", unknown_path),
    path("", include("jobs.urls")),
    path("", include("vendors.urls")),
    path("", include("payments.urls")),
]

handler500 = "accounts.api.errors.server_error"
