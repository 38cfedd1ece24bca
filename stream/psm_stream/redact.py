"""What is shown, logged, published or recorded of a source: without credentials (`redact`), and `printable`."""

from __future__ import annotations

import re
from urllib.parse import unquote

HIDDEN = "***"

# Up to the last @ before a blank or quote, as passwords hold unescaped @, / and ?; hiding too much is the safe side.
_USER_PART = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^\s'\"<>]*@")
_ADDRESS = re.compile(r"(?i)\b[a-z][a-z0-9+.-]*://[^\s'\"<>]+")
_VALUE = re.compile(r"([?&;/][^=?&;/]+)=([^&;?]*)")
# Every other value may be a password or a token: cameras name theirs as they like (pwd, p, auth, sig, sid, ...).
_HARMLESS = re.compile(r"(?i).(channel|stream|subtype|profile|resolution|fps|codec|videocodec|transportmode|proto)")


def redact(text: str, url: str = "") -> str:
    """Hide user names, passwords and parameter values of the addresses in `text`.

    url: an address whose user name and password are hidden wherever they stand, outside of addresses too.
    """
    text = _USER_PART.sub(rf"\1{HIDDEN}@", text)
    text = _ADDRESS.sub(lambda address: _VALUE.sub(_hide_value, address[0]), text)
    for secret in _secrets(url):
        text = text.replace(secret, HIDDEN)
    return text


def printable(text: str) -> str:
    """Escape what is no visible character: line breaks, and the bytes of file names that are not UTF-8."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def name_of(place: str) -> str:
    """Return an address, file or folder as it may be shown: without credentials, in one line that UTF-8 can hold."""
    return printable(redact(place, place))


def _hide_value(parameter: re.Match[str]) -> str:
    key, value = parameter.groups()
    return f"{key}={value if _HARMLESS.fullmatch(key) else HIDDEN}"


def _secrets(url: str) -> list[str]:
    """User part, user and password of a URL, as written and decoded, longest first; none shorter than 3 letters."""
    user_part = url.partition("://")[2].rpartition("@")[0]
    written = [user_part, *user_part.split(":", 1)]
    found = {secret for part in written for secret in (part, unquote(part)) if len(secret) >= 3}
    return sorted(found, key=len, reverse=True)
