"""Settings of every process, read from the environment with typed getters.

`./run` sets what is missing on a developer's machine; a deployment sets SECRET_KEY,
CREDENTIAL_KEYS, DATABASE_URL, REDIS_URL and PUBLIC_URL. A missing one stops the process here, by
name.
"""

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dj_database_url
import structlog
from corsheaders.defaults import default_headers
from django.templatetags.static import static
from django.urls import reverse_lazy
from environs import Env

env = Env()
BASE_DIR = Path(__file__).resolve().parent.parent

# --- Where and how it runs ------------------------------------------------------------------

DEBUG = env.bool("DEBUG", default=False)
SECRET_KEY = env.str("SECRET_KEY")
PUBLIC_URL = urlsplit(env.str("PUBLIC_URL", default="http://localhost:8000"))
IS_HTTPS = PUBLIC_URL.scheme == "https"
DATA_DIR = env.path("DATA_DIR", default=BASE_DIR / ".data")

ALLOWED_HOSTS = [
    PUBLIC_URL.hostname or "localhost",
    "localhost",
    "127.0.0.1",
    *env.list("ALLOWED_HOSTS", default=[]),
]
CSRF_TRUSTED_ORIGINS = [f"{PUBLIC_URL.scheme}://{PUBLIC_URL.netloc}"]

INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "servestatic.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "channels",
    "corsheaders",
    "pgtrigger",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "auditlog",
    "accounts",
    "jobs",
    "vendors",
    "payments",
]

MIDDLEWARE = [
    "config.requests.request_identity",
    "corsheaders.middleware.CorsMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "servestatic.middleware.ServeStaticMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "accounts.acting.acting_request",
]

ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
# The documents' paths have no slash at the end; a POST cannot be redirected to one.
APPEND_SLASH = False

TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# --- Database -------------------------------------------------------------------------------

_database = dj_database_url.parse(env.str("DATABASE_URL"))
DATABASES = {
    "default": {
        **_database,
        # Connections of one process are pooled: ASGI makes a thread a request, and a worker's
        # threads come and go. Checked at check-out, so that a restarted server is not noticed.
        "CONN_MAX_AGE": 0,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {
            **_database.get("OPTIONS", {}),
            "pool": {"min_size": 1, "max_size": env.int("DATABASE_POOL_SIZE", default=24)},
            # The engine's statements are long and always the same: planned once a connection, they
            # cost PostgreSQL less than half. A PgBouncer in between must know prepared statements.
            "server_side_binding": True,
            "prepare_threshold": 5,
            # No transaction of ours waits for a browser or a person; one that does is a bug.
            "options": "-c idle_in_transaction_session_timeout=60000",
        },
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Redis or Valkey: Celery's broker and the channel layer ----------------------------------

REDIS_URL = env.str("REDIS_URL")

CELERY_BROKER_URL = REDIS_URL
CELERY_TASK_DEFAULT_QUEUE = "steps"
CELERY_TASK_IGNORE_RESULT = True  # and no result backend: outcomes are rows
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
AGEING_MINUTES = env.float("AGEING_MINUTES", default=5.0)  # a ready step's, for a level of priority
LEASE_SECONDS = env.float("LEASE_SECONDS", default=15.0)  # a killed worker's step waits that long
WORKER_SHUTDOWN_SECONDS = env.float("WORKER_SHUTDOWN_SECONDS", default=15.0)  # after SIGTERM
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 3600,  # a message lost with its worker is the sweep's business, not ours
    "socket_timeout": 5,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "unacked_restore_throttle": 1,
    "global_keyprefix": "cartwright:",
}

CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "jobs.hint_layer.HintLayer",
        "CONFIG": {
            # redis-py 8 times out after 5 s, just what channels_redis waits for a message.
            "hosts": [{"address": REDIS_URL, "socket_timeout": None}],
            "prefix": "cartwright-live",
            "capacity": 1000,
        },
    }
}

# --- Browsers -------------------------------------------------------------------------------

CHROMIUM_PATH = env.path("CHROMIUM_PATH", default=None)

# --- Webhooks -------------------------------------------------------------------------------

# For receivers on the own network, such as an ERPNext: private addresses, and http.
WEBHOOKS_ALLOW_PRIVATE = env.bool("WEBHOOKS_ALLOW_PRIVATE", default=False)

# --- Mail -----------------------------------------------------------------------------------

# The sender's address; without it no mail is sent. A service that has no SMTP is another backend,
# such as django-anymail's.
MAIL_FROM = env.str("MAIL_FROM", default="")
EMAIL_BACKEND = env.str("EMAIL_BACKEND", default="django.core.mail.backends.smtp.EmailBackend")
EMAIL_HOST = env.str("EMAIL_HOST", default="localhost")
EMAIL_PORT = env.int("EMAIL_PORT", default=25)
EMAIL_HOST_USER = env.str("EMAIL_HOST_USER", default="")
EMAIL_HOST_PASSWORD = env.str("EMAIL_HOST_PASSWORD", default="")
EMAIL_USE_TLS = env.bool("EMAIL_USE_TLS", default=False)
EMAIL_TIMEOUT = 10  # seconds; whoever sends has other work too

# --- People, secrets, sessions ---------------------------------------------------------------

AUTH_USER_MODEL = "accounts.User"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "admin:login"
CREDENTIAL_KEYS = env.str("CREDENTIAL_KEYS")

SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = IS_HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if IS_HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = IS_HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if IS_HTTPS else None
# Probes and scrapers are on our own network and speak to the process itself.
SECURE_REDIRECT_EXEMPT = ["^health$", "^health/live$", "^metrics$"]
X_FRAME_OPTIONS = "DENY"

# --- Operation ------------------------------------------------------------------------------

# Lets a scraper read /metrics that is not on this machine or its private network.
METRICS_TOKEN = env.str("METRICS_TOKEN", default="")
# More than 10 % failures of a vendor among so many attempts or more, within so many minutes, turn
# its automation off; and an item should be done after so many seconds (PRD, 13.1 and US-001).
ALERT_LEAST_ATTEMPTS = env.int("ALERT_LEAST_ATTEMPTS", default=20)
ALERT_WINDOW_MINUTES = env.int("ALERT_WINDOW_MINUTES", default=240)
ALERT_DEADLINE_SECONDS = env.int("ALERT_DEADLINE_SECONDS", default=60)
# After so many days a finished job goes to the archive (PRD, section 10.4).
RETENTION_DAYS = env.int("RETENTION_DAYS", default=30)
# After so many days an entry of the audit trail is deleted: a year, and time to look back at it.
AUDIT_DAYS = env.int("AUDIT_DAYS", default=400)
AUDITLOG_STORE_JSON_CHANGES = True
AUDITLOG_DISABLE_ON_RAW_SAVE = True  # loaddata
AUDITLOG_CID_GETTER = "accounts.audit.find_correlation_id"

# --- Vouchers --------------------------------------------------------------------------------

# Most transactions that one purchase may have.
PURCHASE_MOST_TRANSACTIONS = env.int("PURCHASE_MOST_TRANSACTIONS", default=20)
# A CVV is in Valkey alone, sealed, and for so long at most; it is erased when it was used up.
CVV_SECONDS = env.int("CVV_SECONDS", default=2 * 3600)
# For so long a voucher that was paid for is waited for; then a person asks the portal.
VOUCHER_PATIENCE = timedelta(minutes=env.int("VOUCHER_PATIENCE_MINUTES", default=45))

# --- REST -----------------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "accounts.api.authentication.ApiKeyAuthentication",
        "rest_framework_simplejwt.authentication.JWTAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["accounts.api.parsers.JSONObjectParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "accounts.api.errors.exception_handler",
    "UNAUTHENTICATED_USER": None,
}
# Pages of these origins may call the API from a browser, such as https://dashboard.example.
CORS_ALLOWED_ORIGINS: list[str] = env.list("CORS_ALLOWED_ORIGINS", default=[])
CORS_URLS_REGEX = r"^/api/"
CORS_ALLOW_HEADERS = [*default_headers, "idempotency-key", "last-event-id"]
CORS_EXPOSE_HEADERS = ["Idempotent-Replayed", "Retry-After"]
# Of one user, to what is under /api/cart/ (PRD, section 10.2). 0: as many as they like.
CART_REQUESTS_PER_MINUTE = env.int("CART_REQUESTS_PER_MINUTE", default=100)
SIMPLE_JWT = {
    "ACCESS_TOKEN_LIFETIME": timedelta(minutes=15),
    "REFRESH_TOKEN_LIFETIME": timedelta(days=1),
    "UPDATE_LAST_LOGIN": True,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Cartwright",
    "DESCRIPTION": "Purchase requests in, verified carts out.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "ENUM_NAME_OVERRIDES": {
        "JobStatus": "jobs.models.engine.JOB_STATUSES",
        "StepStatus": "jobs.models.engine.STEP_STATUSES",
        "QueueItemStatus": "vendors.models.QueueItem.Status",
        "PurchaseStatus": "payments.models.VoucherPurchase.Status",
        "TransactionStatus": "payments.models.Transaction.Status",
        "VoucherStatus": "payments.models.VoucherCode.Status",
        "RunStepStatus": "payments.api.serializers.STEP_STATUSES",
        "OtpRequestStatus": "jobs.models.OtpRequest.Status",
        "JobAction": ["cancel", "rerun", "resume"],
        "QueueAction": ["retry", "cancel", "manual", "complete", "fail"],
    },
}

# --- Pages ----------------------------------------------------------------------------------

USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = "static/"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    # Screenshots and page texts of failed attempts: served by a view that checks who asks.
    "artifacts": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": DATA_DIR / "artifacts"},
    },
}
SERVESTATIC_USE_FINDERS = True  # served from the packages: nothing to collect

UNFOLD = {
    "SITE_TITLE": "Cartwright",
    "SITE_HEADER": "Cartwright",
    "SITE_SUBHEADER": "Buying, carried out",
    "SITE_SYMBOL": "shopping_cart_checkout",
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda _: static("jobs/favicon.svg")}
    ],
    "SITE_URL": reverse_lazy("jobs:list"),
    "SHOW_HISTORY": True,
    "SIDEBAR": {
        "show_search": False,
        "show_all_applications": False,
        "navigation": [
            {
                "title": "Work",
                "items": [
                    {
                        "title": "Queue",
                        "icon": "shopping_cart",
                        "link": reverse_lazy("vendors:queue"),
                    },
                    {
                        "title": "Vouchers",
                        "icon": "confirmation_number",
                        "link": reverse_lazy("payments:list"),
                    },
                    {"title": "Inbox", "icon": "inbox", "link": reverse_lazy("jobs:inbox")},
                    {
                        "title": "Jobs",
                        "icon": "conveyor_belt",
                        "link": reverse_lazy("jobs:list"),
                        # Else it would light up on every /admin/jobs/ page as well.
                        "active": lambda request: request.path.startswith("/jobs/"),
                    },
                    {
                        "title": "Limits and pauses",
                        "icon": "traffic",
                        "link": reverse_lazy("admin:jobs_flowlimit_changelist"),
                    },
                    {
                        "title": "Health",
                        "icon": "monitor_heart",
                        "link": reverse_lazy("jobs:health_page"),
                        "active": lambda request: request.path.startswith("/health/"),
                    },
                    {
                        "title": "Archive",
                        "icon": "inventory_2",
                        "link": reverse_lazy("admin:jobs_archivedjob_changelist"),
                    },
                ],
            },
            {
                "title": "Vendors",
                "separator": True,
                "items": [
                    {
                        "title": "Vendors",
                        "icon": "storefront",
                        "link": reverse_lazy("admin:vendors_vendor_changelist"),
                    },
                    {
                        "title": "Vendor health",
                        "icon": "vital_signs",
                        "link": reverse_lazy("vendors:health"),
                    },
                    {
                        "title": "Vendor accounts",
                        "icon": "key",
                        "link": reverse_lazy("admin:vendors_vendoraccount_changelist"),
                    },
                    {
                        "title": "Queue items",
                        "icon": "list_alt",
                        "link": reverse_lazy("admin:vendors_queueitem_changelist"),
                    },
                    {
                        "title": "Cart items",
                        "icon": "shopping_bag",
                        "link": reverse_lazy("admin:vendors_cartitem_changelist"),
                    },
                    {
                        "title": "Migrations",
                        "icon": "move_item",
                        "link": reverse_lazy("admin:vendors_accountmigration_changelist"),
                    },
                    {
                        "title": "ERPNext",
                        "icon": "sync_alt",
                        "link": reverse_lazy("admin:vendors_erpnextconnection_changelist"),
                    },
                ],
            },
            {
                "title": "Voucher set-up",
                "separator": True,
                "items": [
                    {
                        "title": "Cards",
                        "icon": "credit_card",
                        "link": reverse_lazy("admin:payments_card_changelist"),
                    },
                    {
                        "title": "Log-ins",
                        "icon": "passkey",
                        "link": reverse_lazy("admin:payments_siteaccount_changelist"),
                    },
                    {
                        "title": "Voucher sites",
                        "icon": "language",
                        "link": reverse_lazy("admin:payments_paymentsite_changelist"),
                    },
                    {
                        "title": "Issued vouchers",
                        "icon": "redeem",
                        "link": reverse_lazy("admin:payments_vouchercode_changelist"),
                    },
                ],
            },
            {
                "title": "One-time passwords",
                "separator": True,
                "items": [
                    {
                        "title": "Phones and mailboxes",
                        "icon": "sms",
                        "link": reverse_lazy("admin:jobs_inboundsource_changelist"),
                    },
                    {
                        "title": "Reading rules",
                        "icon": "rule",
                        "link": reverse_lazy("admin:jobs_otprule_changelist"),
                    },
                    {
                        "title": "Messages",
                        "icon": "mail",
                        "link": reverse_lazy("admin:jobs_inboundmessage_changelist"),
                    },
                ],
            },
            {
                "title": "People and access",
                "separator": True,
                "items": [
                    {
                        "title": "Users",
                        "icon": "group",
                        "link": reverse_lazy("admin:accounts_user_changelist"),
                    },
                    {
                        "title": "API keys",
                        "icon": "vpn_key",
                        "link": reverse_lazy("admin:accounts_apikey_changelist"),
                    },
                    {
                        "title": "Webhooks",
                        "icon": "webhook",
                        "link": reverse_lazy("admin:jobs_webhookendpoint_changelist"),
                    },
                    {
                        "title": "Webhook deliveries",
                        "icon": "outgoing_mail",
                        "link": reverse_lazy("admin:jobs_webhookdelivery_changelist"),
                    },
                    {
                        "title": "Audit trail",
                        "icon": "policy",
                        "link": reverse_lazy("admin:auditlog_logentry_changelist"),
                    },
                    {
                        "title": "API reference",
                        "icon": "api",
                        "link": reverse_lazy("api-docs"),
                    },
                ],
            },
        ],
    },
}

# --- Logs: constant text plus data ------------------------------------------------------------

# At a terminal for people, else for whatever collects logs.
LOG_FORMAT = env.str("LOG_FORMAT", default="text" if sys.stderr.isatty() else "json")

structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.filter_by_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
        structlog.processors.format_exc_info,
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ],
    logger_factory=structlog.stdlib.LoggerFactory(),
    wrapper_class=structlog.stdlib.BoundLogger,
    cache_logger_on_first_use=True,
)
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "structured": {
            "()": structlog.stdlib.ProcessorFormatter,
            "processor": (
                structlog.processors.JSONRenderer()
                if LOG_FORMAT == "json"
                else structlog.dev.ConsoleRenderer(
                    colors=False,
                    pad_event_to=0,
                    # The default, where rich is installed, prints every frame's locals: passwords.
                    exception_formatter=structlog.dev.plain_traceback,
                )
            ),
            "foreign_pre_chain": [
                structlog.contextvars.merge_contextvars,
                structlog.stdlib.add_logger_name,
                structlog.stdlib.add_log_level,
                structlog.processors.TimeStamper(fmt="iso"),
                structlog.processors.format_exc_info,
            ],
        }
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "structured"}},
    "root": {"handlers": ["stderr"], "level": env.str("LOG_LEVEL", default="INFO")},
    "loggers": {
        "uvicorn.access": {"level": "WARNING"},
        "httpx": {"level": "WARNING"},
        "celery.worker.strategy": {
            "level": "WARNING"
        },  # a line a message: steps log for themselves
        "celery.app.trace": {"level": "WARNING"},
    },
}
