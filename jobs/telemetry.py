"""OpenTelemetry spans, when OTEL_EXPORTER_OTLP_ENDPOINT says where to send them; else nothing.

Its packages are optional: only who sends spans needs them. All else is told by OpenTelemetry's own
environment variables (OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS ...).
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from threading import Lock
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from jobs.statements import ClaimedStep

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
PACKAGES = "opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"

_making = Lock()


def is_configured() -> bool:
    return bool(os.environ.get(ENDPOINT))


def check() -> None:
    """Raises ImproperlyConfigured if spans are wanted and cannot be made."""
    if not is_configured():
        return
    try:
        import opentelemetry.exporter.otlp.proto.http.trace_exporter
        import opentelemetry.sdk.trace  # noqa: F401
    except ImportError as error:
        raise ImproperlyConfigured(
            f"{ENDPOINT} is set, but OpenTelemetry is not installed. Run: pip install {PACKAGES}. "
            f"Or unset {ENDPOINT} to send no spans."
        ) from error


def span(name: str, **attributes: Any) -> AbstractContextManager[Any]:
    """A span around the block, of what caused it; its value is the span, or None without any."""
    if not is_configured():
        return nullcontext()
    return _recorded(name, attributes)


def step_span(step: ClaimedStep) -> AbstractContextManager[Any]:
    return span(
        f"step {step.name}",
        **{
            "cartwright.job": str(step.job_id),
            "cartwright.step": step.name,
            "cartwright.attempt": step.attempt,
            "cartwright.handler": step.handler,
            "cartwright.workflow": step.workflow,
        },
    )


@contextmanager
def _recorded(name: str, attributes: dict[str, Any]) -> Iterator[Any]:
    with _tracer().start_as_current_span(name, attributes=attributes) as recorded:
        yield recorded


def _tracer() -> Any:
    with _making:
        return _make_tracer()


@cache
def _make_tracer() -> Any:
    """At the first span: its exporter is a thread, and uvicorn and Celery may fork before."""
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    os.environ.setdefault("OTEL_SERVICE_NAME", "cartwright")
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider.get_tracer("cartwright")
