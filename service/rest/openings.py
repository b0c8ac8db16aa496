"""Which key opens which path: the one table for all protocols. A path that it does not name needs `predict`."""

import re
from typing import Final, Literal

from noisevote.service.callers import Scope

# `health` and `page`: no key. They differ in who may ask: monitors under any name of the server, and links on any page.
Opening = Scope | Literal["health", "page", "metrics"]

HEALTH: Final = re.compile(r"/(healthz|readyz|v2/health/(live|ready))")
# What the browser loads before a person can give it a key. The description names no model that is served.
PAGE: Final = re.compile(r"/|/docs|/openapi\.json|/(static|static-offline-docs|playground)(/.*)?", re.DOTALL)
ADMIN: Final = re.compile(r"/(v1/admin|v2/repository)(/.*)?", re.DOTALL)


def opening(path: str) -> Opening:
    """What opens a path, given as routes match it: decoded, and without the prefix of a proxy."""
    if path.startswith("/v1/models"):
        return "predict"  # the most frequent first
    if HEALTH.fullmatch(path):
        return "health"
    if path == "/metrics":
        return "metrics"
    if PAGE.fullmatch(path):
        return "page"
    return "admin" if ADMIN.fullmatch(path) else "predict"
