import time
from collections.abc import Callable
from typing import Any


def wait_until(holds: Callable[[], Any], seconds: float = 30.0, every: float = 0.01) -> Any:
    """What `holds` returns, once that is true."""
    end = time.monotonic() + seconds
    while not (result := holds()):
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(every)
    return result
