"""What MLflow's answers, and its silence, mean for what was to be sent: it waits, or MLflow will never take it.

Here: the status behind an error, and what follows from it. Before MLflow there may be a proxy, which answers in HTML.
Not here: what is done about it (`runs.py`, `sender.py`).
"""

from __future__ import annotations

import re
import urllib.error
import urllib.request

from mnist_pipeline.tracking import is_server, without_login

PROBE_S = 2.0  # for a sign of life, before the seconds that importing mlflow takes are spent
# Of mlflow's codes, those of a server that answers in JSON and cannot now.
PASSING = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "DEADLINE_EXCEEDED", "IO_ERROR"}
LATER = {408, 425, 429}  # and everything from 500
# Not the record's fault: no access to the server or the proxy before it, or somebody else was quicker this time.
NOT_FOR_GOOD = {*LATER, 401, 403, 407, 409}


def away(uri: str) -> str:
    """Why a server does not answer, "" if it does or if the URI is no server. Costs PROBE_S at most."""
    if not is_server(uri):
        return ""
    try:
        with urllib.request.urlopen(f"{without_login(uri).rstrip('/')}/health", timeout=PROBE_S):
            return ""
    except urllib.error.HTTPError as error:
        error.close()
        return f"it answers {error.code}" if error.code == 429 or error.code >= 500 else ""
    except OSError as error:  # no connection, no name, no answer in time
        return str(getattr(error, "reason", error))


def as_away(error: Exception, uri: str) -> str:
    """`error` in words if it is the absence of a server: no connection, no answer in time, 5xx, 429; else ""."""
    return said(error, uri) if is_server(uri) and _is_absence(error) else ""


def said(error: Exception, uri: str) -> str:
    """An error in one line for people, without the login that `uri` may hold."""
    return " ".join(str(error).replace(uri, without_login(uri)).split())[:500]


def is_for_good(error: Exception) -> bool:
    """Whether MLflow, or a proxy before it, will never take what it refused with this: 400, 404, 413, 422 and so on."""
    status = _status(error)
    return status is not None and 400 <= status < 500 and status not in NOT_FOR_GOOD


def _is_absence(error: Exception) -> bool:
    from mlflow.exceptions import MlflowException, RestException
    from requests.exceptions import ConnectionError, Timeout

    if isinstance(error, RestException):  # an answer in JSON; mlflow's default for what bears no code is no sign
        return error.json.get("error_code") in PASSING
    status = _status(error)
    if status is not None:
        return status in LATER or (status >= 500 and _is_answer(error))
    unanswered = isinstance(error, MlflowException) and str(error).startswith("API request to")
    return unanswered or isinstance(error, ConnectionError | Timeout)


def _is_answer(error: Exception) -> bool:
    """Rather than an error that mlflow found by itself, to which it gives a code of its own."""
    from requests.exceptions import HTTPError

    return isinstance(error, HTTPError) or _in_words(error) is not None


def _status(error: Exception) -> int | None:
    """The HTTP status that an error stands for, as far as it is known. Uploads pass on those of requests."""
    from mlflow.exceptions import MlflowException, RestException
    from requests.exceptions import HTTPError

    if isinstance(error, HTTPError):
        return None if error.response is None else int(error.response.status_code)
    if not isinstance(error, MlflowException):
        return None
    if isinstance(error, RestException):
        return int(error.get_http_status_code()) if "error_code" in error.json else None
    if said := _in_words(error):
        return said
    return None if str(error).startswith("API request to") else int(error.get_http_status_code())


def _in_words(error: Exception) -> int | None:
    """Of an answer that is not JSON mlflow tells the status only in words: 413 and 520 both become INTERNAL_ERROR."""
    found = re.match(r"API request to endpoint \S+ failed with error code (\d{3})", str(error))
    return int(found[1]) if found else None
