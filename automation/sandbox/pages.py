"""How a shop's pages are made: templates, pictures, style sheet and script."""

import re
import secrets
import zlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from automation.sandbox.fronts import Front

HERE = Path(__file__).parent
PICTURES = {
    path.stem: Markup(path.read_text())  # noqa: S704 our own files
    for path in (HERE / "templates" / "pictures").glob("*.svg")
}


class Pages:
    def __init__(self, front: Front) -> None:
        # Unknown before the shop starts, so that no selector can be made of the depot's classes.
        self._class_seed = secrets.token_hex(4) if front.templates == "depot" else None
        stylesheet, script = self._name_asset(front, "css"), self._name_asset(front, "js")
        self.assets = dict([stylesheet, script])
        folder = HERE / "templates"
        self._environment = Environment(
            loader=FileSystemLoader([folder / front.templates, folder / "shared"]),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.globals.update(
            front=front,
            picture=PICTURES.__getitem__,
            css=self._class_names,
            form_token=secrets.token_urlsafe,
            stylesheet=stylesheet[0],
            script=script[0],
        )
        self._environment.filters["rupees"] = lambda amount: f"₹{amount:,}"

    def render(self, template: str, **values: Any) -> str:
        return self._environment.get_template(template).render(**values)

    def _name_asset(self, front: Front, kind: str) -> tuple[str, str]:
        """Name and text. The name carries a checksum, so that a browser may keep the file."""
        name = "shop.js" if kind == "js" else f"{front.templates}.css"
        text = (HERE / "static" / name).read_text()
        if kind == "css" and self._class_seed:
            text = re.sub(r"\.([a-z][\w-]*)", lambda match: "." + self._class_names(match[1]), text)
        return f"shop.{zlib.crc32(text.encode()):08x}.{kind}", text

    def _class_names(self, names: str) -> str:
        if self._class_seed is None:
            return names
        return " ".join(
            f"x{zlib.crc32((self._class_seed + name).encode()):08x}" for name in names.split()
        )
