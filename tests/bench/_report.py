"""What a benchmark hands over: one JSON object, or the same numbers in a table for a person."""

import json
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table


@dataclass
class Report:
    """`measurements` have the names of DESIGN.md; `runs` are what they were computed from."""

    bench: str
    versions: dict[str, str]
    measurements: dict[str, float] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)

    def print_json(self) -> None:
        measurements = {name: round(value, 3) for name, value in self.measurements.items()}
        parts = {
            "bench": self.bench,
            "versions": self.versions,
            "machine": machine(),
            "measurements": measurements,
            "runs": self.runs,
        }
        print(json.dumps(parts, indent=2))

    def print_table(self, targets: Mapping[str, str]) -> None:
        parts = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        table = Table(title=f"Benchmark: {self.bench}", caption=f"{parts}\n{machine()}")
        table.add_column("Measurement")
        table.add_column("Value", justify="right")
        table.add_column("Target")
        for name, value in self.measurements.items():
            table.add_row(name, f"{value:,.4g}", targets.get(name, ""))
        Console().print(table)


def versions_of(*packages: str) -> dict[str, str]:
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def processor() -> str:
    known = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", known.read_text()) if known.exists() else None
    return found[1] if found else platform.machine()


def machine() -> dict[str, Any]:
    return {
        "system": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
    }
