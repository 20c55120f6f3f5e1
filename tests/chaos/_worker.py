"""A Celery worker as `./run` starts it, except that it can be killed at a moment's number."""

import sys

import django
from celery.__main__ import main

django.setup()

from tests.chaos._moments import watch  # noqa: E402

if __name__ == "__main__":
    watch()
    sys.exit(main())
