"""Pages made of templates, and the files that they load."""

import gzip
import hashlib
import mimetypes
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from exuvia.portal.asking import Answer

_HTML = (b"content-type", b"text/html; charset=utf-8")
_FOR_EVER = (b"cache-control", b"public, max-age=31536000, immutable")
_HAS_HASH = re.compile(r".+-[\w-]{8,}\.\w+")
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class _File:
    """A file that pages load: its bytes, plain and compressed."""

    media_type: str
    plain: bytes
    compressed: bytes


class Static:
    """The files that pages load, each under a name that changes with what is in it."""

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}
        self._names: dict[str, str] = {}
        for file in (files("exuvia.portal") / "static").iterdir():
            if file.is_file() and not file.name.startswith("."):
                self._add(file.name, file.read_bytes())

    def path(self, name: str) -> str | None:
        """Return where browsers find a file; None if there is none."""
        found = self._names.get(name)
        return None if found is None else f"/static/{found}"

    def answer(self, name: str, *, compressed: bool) -> Answer | None:
        """Return a file as a browser gets it; None if there is none."""
        file = self._files.get(name)
        if file is None:
            return None
        headers = [(b"content-type", file.media_type.encode()), _FOR_EVER, (b"vary", b"accept-encoding")]
        if compressed:
            headers.append((b"content-encoding", b"gzip"))
        return Answer(200, file.compressed if compressed else file.plain, tuple(headers))

    def _add(self, name: str, content: bytes) -> None:
        # What a script loads by itself has its hash in its name when it is built.
        stem, _, ending = name.rpartition(".")
        fresh = (
            name
            if _HAS_HASH.fullmatch(name)
            else f"{stem}-{hashlib.sha256(content).hexdigest()[:12]}.{ending}"
        )
        media_type = _TYPES.get(f".{ending}") or mimetypes.guess_type(name)[0] or "application/octet-stream"
        self._names[name] = fresh
        self._files[fresh] = _File(media_type, content, gzip.compress(content, 9, mtime=0))


class Pages:
    """Makes pages of templates; whatever a template is given is escaped."""

    def __init__(self) -> None:
        self.static = Static()
        self._templates = Environment(
            loader=PackageLoader("exuvia.portal"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates.globals["static"] = self.static.path
        self._templates.filters["grouped"] = grouped

    def answer(self, template: str, status: int = 200, **values: Any) -> Answer:
        """Return a page."""
        text = self._templates.get_template(f"{template}.html").render(values)
        return Answer(status, text.encode(), (_HTML,))


def grouped(text: str) -> str:
    """Return a text in groups of four, for people to read or type."""
    return " ".join(text[at : at + 4] for at in range(0, len(text), 4))
