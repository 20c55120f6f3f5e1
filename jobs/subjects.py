"""What a job is about, in words for people. Only its workflow's app knows; it registers here."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Fact:
    label: str
    text: str
    url: str = ""


@dataclass(frozen=True)
class Subject:
    facts: Sequence[Fact]
    advice: str = ""  # what a person can do about the job as it stands; empty when nothing


Describe = Callable[[uuid.UUID], Subject | None]
_describers: dict[str, Describe] = {}


def register_subject(workflow: str, describe: Describe) -> None:
    """`describe` gets a job's id; it may read the database, with a fixed number of queries."""
    _describers[workflow] = describe


def find_subject(workflow: str, job_id: uuid.UUID) -> dict[str, Any] | None:
    describe = _describers.get(workflow)
    subject = describe(job_id) if describe else None
    return asdict(subject) if subject else None
