"""Style sheets, the one script and the icon, under addresses that change with their content."""

from __future__ import annotations

import hashlib
from pathlib import Path

from flask import Blueprint, Response, send_from_directory, url_for

from web.access import Permission, requires

FOLDER = Path(__file__).parent / "static"
_A_YEAR_S = 365 * 24 * 3600

static_files = Blueprint("static_files", __name__)
_versions = {
    file.name: hashlib.sha256(file.read_bytes()).hexdigest()[:12] for file in FOLDER.iterdir() if file.is_file()
}


def asset(name: str) -> str:
    """The address of a file of the static folder.

    Raises:
        KeyError: there is no such file.
    """
    return url_for("static_files.serve", version=_versions[name], name=name)


@static_files.get("/static/<string(length=12):version>/<string:name>")
@requires(Permission.PUBLIC)
def serve(version: str, name: str) -> Response:
    """One file; the browser keeps it as long as its address is right."""
    response = send_from_directory(FOLDER, name)
    if _versions.get(name) == version:
        response.headers["Cache-Control"] = f"public, max-age={_A_YEAR_S}, immutable"
    return response
