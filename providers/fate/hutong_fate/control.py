"""Answers the scheduler's status queries on system.control_port (API_SPECS, part 3, section 3.2.1)."""

import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from .metrics import Metrics
from .task import Task

log = logging.getLogger("hutong_fate")

PATH = "/v1/platform/algorithm/task/query"
_MAX_QUERY = 1 << 16


def answer(task: Task, metrics: Metrics, path: str, body: bytes):
    """Returns the HTTP status and the JSON of an answer."""
    if path != PATH:
        return 404, {"code": 404, "msg": "this port serves " + PATH + " only"}
    try:
        task_id = json.loads(body)["task_id"]
    except (ValueError, KeyError, TypeError):
        return 400, {"code": 400, "msg": "the body must be JSON with a task_id"}
    if task_id != task.task_id:
        return 404, {"code": 404, "msg": "task_id: this task does not run here"}
    state = {"status": "RUNNING", "role": task.self_role.role, **metrics.progress()}
    return 200, {"code": 0, "msg": "success", **state, "data": state}


def serve(task: Task, metrics: Metrics) -> None:
    """Serves the control port, if there is one, until the program ends. Queries are optional."""
    if not task.control_port:
        return

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_POST(self):
            size = min(int(self.headers.get("Content-Length") or 0), _MAX_QUERY)
            status, document = answer(task, metrics, self.path, self.rfile.read(size))
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    try:
        server = ThreadingHTTPServer(("", int(task.control_port)), Handler)
    except (OSError, ValueError, OverflowError) as err:
        log.warning("failed to serve system.control_port: %s", err)
        return
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
