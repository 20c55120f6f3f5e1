"""Django settings of the Oscar process, as Oscar's "Building your own shop" page gives them.

Nothing comes from the project's own settings. What differs from Oscar's page says why.
"""

import os

from oscar import INSTALLED_APPS  # noqa: F401 - Django reads it here
from oscar.defaults import *  # noqa: F403 - Oscar's documented way to take its defaults

SECRET_KEY = "a shop that lives for one test run has nothing to protect"
ALLOWED_HOSTS = ["oscar.localhost", "127.0.0.1"]
ROOT_URLCONF = "tests.shops.oscar.urls"
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
LOGIN_REDIRECT_URL = "/"
SITE_ID = 1
STATIC_URL = "static/"
USE_TZ = True

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "oscar.apps.basket.middleware.BasketMiddleware",
    "django.contrib.flatpages.middleware.FlatpageFallbackMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "oscar.apps.search.context_processors.search_form",
                "oscar.apps.checkout.context_processors.checkout",
                "oscar.apps.communication.notifications.context_processors.notifications",
                "oscar.core.context_processors.metadata",
            ],
        },
    },
]

AUTHENTICATION_BACKENDS = [
    "oscar.apps.customer.auth_backends.EmailBackend",
    "django.contrib.auth.backends.ModelBackend",
]
# Django's default spends a third of a second of CPU on every log-in.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ["OSCAR_DATABASE"],
        "ATOMIC_REQUESTS": True,
        "OPTIONS": {
            # A transaction that reads before it writes cannot wait for the lock it asks for so
            # late: SQLite answers "database is locked" at once. Asked for at the start, it waits.
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            # WAL, so that a test may read the baskets while the shop writes them.
            "init_command": "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF",
        },
    }
}

HAYSTACK_CONNECTIONS = {"default": {"ENGINE": "haystack.backends.simple_backend.SimpleEngine"}}
EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
# Oscar's own thumbnailers need one more package each, and image files.
OSCAR_THUMBNAILER = "tests.shops.oscar.thumbnails.PlaceholderThumbnailer"
