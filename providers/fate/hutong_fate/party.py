"""Calls the task's own party: the callback, and the release of the session."""

import json
import logging
import time
import urllib.error
import urllib.request

from .task import Task

log = logging.getLogger("hutong_fate")

_TRIES = 5
_TIMEOUT = 10
# Never a proxy, whatever the environment says.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def report(task: Task, status: str) -> None:
    """Sends the final state to system.callback. The exit code says the same, so a failure is only logged."""
    if not task.callback or not task.self_role:
        return
    body = {"task_id": task.task_id, "status": status, "role": str(task.self_role)}
    pause = 0.5
    for attempt in range(1, _TRIES + 1):
        try:
            answer = _post(task.callback, body, {})
            if answer.get("code", 0) in (0, 200):
                return
            reason = f"code {answer.get('code')}"
        except urllib.error.HTTPError as err:
            reason = f"HTTP {err.code}"
            if err.code < 500:
                attempt = _TRIES
        except (OSError, ValueError) as err:
            reason = type(err).__name__
        if attempt == _TRIES:
            break
        time.sleep(pause)
        pause *= 2
    log.warning("failed to report %s: %s; the exit code says the same", status, reason)


def release(task: Task) -> None:
    """Removes what is left in the task's session: `component execute` never does."""
    url = task.transport if "://" in task.transport else "http://" + task.transport
    headers = {
        "x-ptp-session-id": task.federation_id,
        "x-ptp-tech-provider-code": "FATE",
        "x-ptp-trace-id": task.trace_id,
        "x-ptp-from-node-id": task.self_role.node_id,
        "x-ptp-token": task.token,
    }
    try:
        _post(url.rstrip("/") + "/v1/interconn/chan/release", {"topic": ""}, headers)
    except (OSError, ValueError) as err:
        log.warning("failed to release the session: %s", getattr(err, "code", type(err).__name__))


def _post(url: str, document: dict, headers: dict) -> dict:
    request = urllib.request.Request(
        url,
        data=json.dumps(document).encode(),
        headers={"Content-Type": "application/json", **{k: v for k, v in headers.items() if v}},
        method="POST",
    )
    with _opener.open(request, timeout=_TIMEOUT) as response:
        text = response.read(1 << 16)
    try:
        answer = json.loads(text)
    except ValueError:
        answer = {}
    return answer if isinstance(answer, dict) else {}
