"""Takes the metrics that FATE posts while it trains, one at a time, and makes a report of them."""

import json
import logging
import math
import secrets
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Dict, List, Optional

log = logging.getLogger("hutong_fate")

# FATE's name of an axis of steps, and the parameters that say how many steps there are.
_TOTALS = {"iterations": ("num_trees", "epochs", "max_iter"), "epochs": ("epochs",), "epoch": ("epochs",)}


class Metrics:
    """The metrics of a task. It is safe for concurrent use."""

    def __init__(self, parameters: Optional[Dict[str, str]] = None):
        self._records: Dict[tuple, dict] = {}
        self._parameters = parameters or {}
        self._latest = ""
        self._progress: Optional[float] = None
        self._lock = threading.Lock()

    def add(self, record: dict) -> None:
        """Adds a record. Steps of the same metric become one series, as in a file that FATE writes itself."""
        record = plain(record)
        groups = [(g.get("name"), g.get("index")) for g in record.get("groups") or []]
        key = (record.get("name"), record.get("type"), record.get("step_axis"), tuple(groups))
        steps = record.get("data") if record.get("step_axis") else None
        with self._lock:
            known = self._records.get(key)
            if known is not None and steps is not None:
                known["data"].extend(steps)
            else:
                self._records[key] = record
            if steps:
                self._note(record, steps[-1])

    def _note(self, record: dict, step: dict) -> None:
        value = step.get("metric")
        if isinstance(value, float):
            value = format(value, ".6g")
        elif not isinstance(value, int):
            return
        number = step.get("step", 0) + 1
        self._latest = f"{record.get('name')} {value}, {record.get('step_axis')} {number}"
        for name in _TOTALS.get(record.get("step_axis"), ()):
            total = self._parameters.get(name, "")
            if total.isdecimal() and int(total) >= number:
                self._latest += f" of {total}"
                self._progress = number / int(total)
                break
        log.info("metric: %s", self._latest)

    def progress(self) -> dict:
        """Returns the latest metric, and the part that is done, if FATE says of how many."""
        with self._lock:
            fields = {"msg": self._latest} if self._latest else {}
            if self._progress is not None:
                fields["progress"] = round(self._progress, 3)
            return fields

    def report(self) -> List[dict]:
        with self._lock:
            return list(self._records.values())


def plain(value):
    """Replaces numbers that JSON does not have by null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


class MetricServer:
    """Serves the address to which FATE posts metrics, on the loopback interface."""

    def __init__(self, metrics: Metrics):
        path = "/" + secrets.token_urlsafe(24)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                status = 404
                if secrets.compare_digest(self.path, path):
                    status = 200
                    try:
                        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                        for record in json.loads(body)["data"]:
                            metrics.add(record)
                    except (ValueError, KeyError, TypeError, AttributeError):
                        log.warning("FATE posted a metric that can't be read")
                        status = 400
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}{path}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
