"""A client of the sandbox's control paths, for the demo."""

from typing import Any
from urllib.parse import urlsplit

import httpx


class SandboxSite:
    """The control paths of one site. Its name is loopback by RFC 6761; Python does not know."""

    def __init__(self, sandbox_url: str, host: str) -> None:
        port = urlsplit(sandbox_url).port
        self._http = httpx.Client(
            base_url=f"{sandbox_url}/_sandbox/", headers={"Host": f"{host}:{port}"}
        )

    def get(self, path: str, **params: str) -> Any:
        return self._http.get(path, params=params).raise_for_status().json()

    def post(self, path: str, **body: Any) -> None:
        self._http.post(path, json=body).raise_for_status()
