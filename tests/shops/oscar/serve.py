"""The Oscar process: `python -m tests.shops.oscar.serve FD`, where FD is a listening socket.

Makes the database OSCAR_DATABASE, fills the catalogue, and serves until its standard input
ends. So it also ends when the process that started it was killed.
"""

import socket
import sys
import threading

import django
import uvicorn
from django.apps import apps
from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application
from django.core.management import call_command


def build_database() -> None:
    from tests.shops.oscar.catalogue import fill_catalogue  # needs django.setup()

    # Tables straight from the models: half a second instead of seven for Oscar's migrations.
    settings.MIGRATION_MODULES = {app.label: None for app in apps.get_app_configs()}
    call_command("migrate", run_syncdb=True, verbosity=0)
    fill_catalogue()


def serve(listener: socket.socket) -> None:
    application = ASGIStaticFilesHandler(get_asgi_application())
    server = uvicorn.Server(
        uvicorn.Config(application, lifespan="off", timeout_graceful_shutdown=2)
    )

    def stop_at_end_of_input() -> None:
        sys.stdin.read()
        server.should_exit = True

    threading.Thread(target=stop_at_end_of_input, daemon=True).start()
    server.run(sockets=[listener])


if __name__ == "__main__":
    django.setup()
    build_database()
    serve(socket.socket(fileno=int(sys.argv[1])))
