"""HTTP and websockets in one ASGI application, served by uvicorn."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
pages = get_asgi_application()  # loads the apps, which the imports below need

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402

from config import short_requests  # noqa: E402
from config.sockets import websocket_patterns, with_identity  # noqa: E402

http = short_requests.apart_from(pages)
application = ProtocolTypeRouter(
    {"http": http, "websocket": with_identity(URLRouter(websocket_patterns))}
)
