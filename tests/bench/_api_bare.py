"""What enqueueing is compared with: a bare Django REST framework create on the queue's own model.

The usual view and serializer, served by uvicorn as the product's web process is, on the same
tables. It knows who calls, and makes no job, checks no address and tells nobody.
"""

import os
from typing import ClassVar

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.bench._api_bare_settings")
application = get_asgi_application()  # loads the apps, which the imports below need

from django.urls import path  # noqa: E402
from rest_framework.generics import CreateAPIView  # noqa: E402
from rest_framework.serializers import ModelSerializer  # noqa: E402

from vendors.models import QueueItem  # noqa: E402


class QueueItemSerializer(ModelSerializer[QueueItem]):
    class Meta:
        model = QueueItem
        fields: ClassVar[list[str]] = [
            "id",
            "user_id",
            "vendor",
            "product_url",
            "product_name",
            "product_data",
            "priority",
            "status",
            "created_at",
        ]


class CreateView(CreateAPIView[QueueItem]):
    queryset = QueueItem.objects.all()
    serializer_class = QueueItemSerializer


urlpatterns = [path("api/bare/add", CreateView.as_view())]
