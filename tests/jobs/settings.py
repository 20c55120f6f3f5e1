"""Settings of the processes that tests start: the product's, with the toy workflows in workers."""

from config.settings import *  # noqa: F403

CELERY_IMPORTS = ["tests.jobs.workflows"]
