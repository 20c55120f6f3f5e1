"""Settings of the engine's benchmark: the product's, with the toy workflows in the workers."""

from config.settings import *  # noqa: F403

CELERY_IMPORTS = ["tests.bench._toys"]
