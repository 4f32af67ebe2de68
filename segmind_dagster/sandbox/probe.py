"""Tells whether a sandbox listens somewhere, so that a second one need not be started."""

from __future__ import annotations

import http.client
import json
from urllib.parse import urlsplit

from segmind_dagster.errors import SettingsError


def is_sandbox(url: str) -> bool:
    """Whether a sandbox answers at that address.

    Args:
        url: base URL on this machine.

    Raises:
        SettingsError: something else answers there.
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=2)
    try:
        connection.request("GET", "/sandbox/account?jobs=false")
        answer = connection.getresponse().read()
        is_one = "charged_usd" in json.loads(answer)
    except (http.client.HTTPException, ValueError, TypeError):
        is_one = False
    except OSError:
        return False
    finally:
        connection.close()
    if not is_one:
        raise SettingsError(
            "port", f"something that is not a sandbox answers at {url}; stop it, or choose another port."
        )
    return True
