"""What every answer carries: how browsers are to treat it, and where it sends them relatively."""

from typing import Final
from urllib.parse import urlsplit

Header = tuple[bytes, bytes]

# An answer is what its content type says, is shown in no other site's page, and tells other sites nothing.
EVERY_ANSWER: Final[tuple[Header, ...]] = (
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
)
# A page takes scripts, styles and answers from this server alone, and is framed by nobody.
PAGE_POLICY: Final = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
PAGE: Final[Header] = (b"content-security-policy", PAGE_POLICY.encode())


def security_headers(headers: list[Header]) -> None:
    """Add to the headers of an answer what it lacks. A page may bring a stricter or wider policy of its own."""
    for name, value in headers:
        if name == b"content-type" and value.startswith(b"text/html"):
            if not any(each == b"content-security-policy" for each, _ in headers):
                headers.append(PAGE)
            break
    headers.extend(EVERY_ANSWER)


def relative_location(location: str, host: str, path: str) -> str:
    """A redirect to this server itself, told relatively to the path that was asked for; others stay as they are.

    What the server is called outside, under which scheme and prefix, is for its proxy to know.
    """
    target = urlsplit(location)
    if target.scheme not in {"http", "https"} or target.netloc != host:
        return location
    folder = path[: path.rindex("/") + 1].split("/")[1:-1]
    wanted = target.path.split("/")[1:]
    common = 0
    while common < min(len(folder), len(wanted) - 1) and folder[common] == wanted[common]:
        common += 1
    relative = "/".join([*[".."] * (len(folder) - common), *wanted[common:]])
    # "." before an empty name, or one that holds a colon and would be taken for a scheme
    plain = relative if relative and ":" not in relative.partition("/")[0] else f"./{relative}"
    return plain + (f"?{target.query}" if target.query else "")
