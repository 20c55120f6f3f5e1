"""What a step that browses needs of its worker: the browser host, its evidence and its progress,
and what becomes of it when the site says no.

For every workflow whose steps drive a browser, whatever they do there. A failure that means
something else to a step is that step's to decide first.
"""

import hashlib
import json
import os
import tempfile
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from celery.signals import worker_shutdown
from django.conf import settings

from automation import errors
from automation.host import BrowserHost
from jobs.context import StepContext
from jobs.errors import Becomes, BusinessError, Stopped, TransientError
from jobs.models import Artifact
from jobs.plans import Outcome, Postpone

RATE_LIMITED_PAUSE = timedelta(seconds=60)  # of a site that does not say for how long


@cache
def get_browser_host() -> BrowserHost:
    """This worker process's browser; it starts with the first step that needs it."""
    return BrowserHost(executable_path=settings.CHROMIUM_PATH, parking_folder=find_parking_folder())


def find_parking_folder() -> Path:
    """Where parked sessions are: on this machine, whose processes they are, though the data folder
    may be all machines' own; and of this data folder, as another has other accounts."""
    data = hashlib.sha256(str(settings.DATA_DIR.resolve()).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"cartwright-parking-{os.getuid()}-{data}"


@worker_shutdown.connect
def close_browser(**_: Any) -> None:
    """Ends this process's own browser; parked ones stay for the next worker."""
    if get_browser_host.cache_info().currsize:
        get_browser_host().close()


def keep_evidence(context: StepContext, error: errors.AutomationError) -> None:
    """Keeps with the attempt what the browser looked like when it failed."""
    evidence = error.evidence
    if evidence is None:
        return
    if evidence.screenshot:
        context.keep_artifact(Artifact.Kind.SCREENSHOT, "screenshot.png", evidence.screenshot)
    context.keep_artifact(Artifact.Kind.PAGE, "page.html", evidence.dom.encode())
    context.keep_artifact(Artifact.Kind.CONSOLE, "console.json", _json(evidence.console))
    context.keep_artifact(Artifact.Kind.NETWORK, "network.json", _json(evidence.network))


def _json(rows: Any) -> bytes:
    return json.dumps(list(rows), indent=1, default=str).encode()


def decide_outcome(error: errors.AutomationError) -> Outcome:
    """What becomes of a step that knows no better. Returns a Postpone, or raises what the runner
    acts on."""
    sentence = str(error)
    match error:
        case errors.RateLimited():
            wait = error.retry_after_seconds
            return Postpone(timedelta(seconds=wait) if wait else RATE_LIMITED_PAUSE, sentence)
        case errors.StepStopped():
            raise Stopped from error
        case errors.CaptchaSeen():
            raise BusinessError(error.code, sentence, Becomes.MANUAL) from error
        case errors.BusinessError():
            raise BusinessError(error.code, sentence) from error
    raise TransientError(error.code, sentence) from error


class PhaseReporter:
    """Turns the flow's phases into the step's progress. How many a shop needs is not known before,
    so each phase closes a quarter of what is left."""

    def __init__(self, context: StepContext) -> None:
        self._context = context
        self._left = 100.0

    def __call__(self, phase: str) -> None:
        self._left *= 0.75
        self._context.progress(round(100 - self._left), phase)
