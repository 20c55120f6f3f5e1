"""What a log line and a span say of where they come from."""

# ruff: noqa: F401, F811  fixtures come by import

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
import structlog
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse
from django.test import Client, RequestFactory
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from config.requests import request_identity
from jobs import live, telemetry
from jobs.plans import Done
from jobs.runner import runner
from tests.jobs import workflows
from tests.jobs.workers import running_worker
from tests.jobs.workflows import submit_toy
from tests.live_site import live_site
from tests.waiting import wait_until


@pytest.fixture
def spans(monkeypatch):
    """Spans are wanted; here they are kept instead of sent."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr(telemetry, "_make_tracer", lambda: provider.get_tracer("test"))
    return exporter.get_finished_spans


# --- Spans -----------------------------------------------------------------------------------


@pytest.mark.django_db
def test_each_attempt_is_a_span_that_names_its_job_step_and_attempt(spans):
    job = submit_toy([["a"], ["b"]])

    runner.run_ready_steps(["steps"])

    assert [span.name for span in spans()] == ["step a", "step b"]
    assert dict(spans()[0].attributes) == {
        "cartwright.job": str(job.pk),
        "cartwright.step": "a",
        "cartwright.attempt": 1,
        "cartwright.handler": "toy.step",
        "cartwright.workflow": "toy",
    }


def test_request_is_a_span_with_its_route_and_its_answer(spans):
    answer = Client().get("/health/live")

    [span] = spans()
    assert span.name == "GET"
    assert dict(span.attributes) == {
        "http.request.method": "GET",
        "url.path": "/health/live",
        "request.id": answer["X-Request-ID"],
        "http.response.status_code": 200,
        "http.route": "health/live",
    }


@pytest.mark.django_db
def test_without_an_endpoint_there_are_no_spans_and_nothing_is_imported():
    script = (
        "import sys, django; django.setup()\n"
        "from jobs import telemetry\n"
        "with telemetry.span('x') as span: assert span is None\n"
        # Of the rest, redis-py imports what it finds.
        "assert not [name for name in sys.modules if name.startswith('opentelemetry.exporter')]"
    )

    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_endpoint_without_the_packages_stops_the_process_with_what_to_do(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    telemetry.check()  # they are installed here
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)

    with pytest.raises(ImproperlyConfigured, match="pip install opentelemetry-sdk"):
        telemetry.check()


class Collector(BaseHTTPRequestHandler):
    """Takes what is sent to it, as an OpenTelemetry collector does."""

    received: list[tuple[str, bytes]] = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.append((self.path, body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_args):
        pass


@pytest.mark.django_db(transaction=True)
def test_real_worker_sends_its_spans_to_the_collector(broker, tmp_path):
    Collector.received.clear()
    server = HTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    quickly = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    try:
        with running_worker(tmp_path, "worker", **quickly):
            job = submit_toy([["a"]])
            live.send_wakes("steps", 1)
            wait_until(lambda: Collector.received)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

    path, body = Collector.received[0]
    assert path == "/v1/traces"
    assert str(job.pk).encode() in body
    assert b"cartwright" in body


# --- Logs ------------------------------------------------------------------------------------


@pytest.fixture
def lines(monkeypatch):
    """The context of each log line of a handler or a view."""
    found = []

    def note():
        found.append(dict(structlog.contextvars.get_contextvars()))

    note.found = found
    return note


@pytest.mark.django_db
def test_line_of_a_running_step_names_its_job_step_and_attempt(lines):
    job = submit_toy([["a"]])
    workflows.BEHAVIOURS["a"] = lambda _context: lines() or Done({})

    runner.run_ready_steps(["steps"])

    assert lines.found == [{"job": str(job.pk), "step": "a", "attempt": 1}]
    assert structlog.contextvars.get_contextvars() == {}


def answered(lines, **headers):
    request = RequestFactory(headers=headers).get("/")
    return request_identity(lambda _request: lines() or HttpResponse())(request)


def test_line_of_a_request_names_it_and_so_does_the_answer(lines):
    first, second = answered(lines), answered(lines)

    ids = [first["X-Request-ID"], second["X-Request-ID"]]
    assert [line["request"] for line in lines.found] == ids
    assert len(set(ids)) == 2
    assert structlog.contextvars.get_contextvars() == {}


@pytest.mark.parametrize(
    ("given", "is_kept"),
    [
        ("7f3c2a90-11aa", True),
        ("short", False),
        ("x" * 65, False),
        ("line\nbreak-in-it", False),
        ('quote"and-more', False),
    ],
)
def test_name_that_a_proxy_gave_is_kept_if_it_is_one(lines, given, is_kept):
    answer = answered(lines, **{"X-Request-ID": given})

    assert (answer["X-Request-ID"] == given) is is_kept
    assert lines.found == [{"request": answer["X-Request-ID"]}]


@pytest.mark.django_db(transaction=True)
async def test_served_request_has_its_id_too(live_site):
    async with httpx.AsyncClient(base_url=live_site.url) as client:
        answer = await client.get("/health/live", headers={"X-Request-ID": "proxy-0001"})

    assert answer.headers["x-request-id"] == "proxy-0001"


@pytest.mark.django_db(transaction=True)
def test_log_that_is_no_terminals_is_json_line_by_line(broker, tmp_path, monkeypatch):
    monkeypatch.delenv("LOG_FORMAT", raising=False)

    with running_worker(tmp_path, "worker"):
        pass

    written = (tmp_path / "worker.log").read_text().splitlines()
    logged = [json.loads(line) for line in written if line.startswith("{")]
    assert any("ready" in line["event"] for line in logged)
    assert all({"event", "level", "timestamp", "logger"} <= set(line) for line in logged)
