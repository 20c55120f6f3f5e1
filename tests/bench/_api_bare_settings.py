"""Settings of the bare create: the product's own, with no other address than its."""

from config.settings import *  # noqa: F403

ROOT_URLCONF = "tests.bench._api_bare"
