"""python -m hutong_fate runs the task that the environment describes. `register` prints the registration."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from . import control, party, storage, task
from .errors import TaskError, TemporaryError
from .metrics import Metrics, MetricServer

log = logging.getLogger("hutong_fate")

_EXIT_STOPPED = 143


class Stopped(Exception):
    """The scheduler stopped the task."""


def _stop(signum, frame):
    raise Stopped


def _environment() -> dict:
    """The worker gets neither the variables of the task, such as the storage's password, nor a proxy."""
    kept = {k: v for k, v in os.environ.items() if "." not in k and not k.lower().endswith("_proxy")}
    return {**kept, "NO_PROXY": "*", "no_proxy": "*", "HF_HUB_OFFLINE": "1"}


def run_worker(folder: Path) -> dict:
    """Runs FATE, and returns its result."""
    read, write = os.pipe()
    # What the worker itself prints may hold rows; it says on a pipe what may be in the log.
    with open(folder / "worker.log", "wb") as out:
        worker = subprocess.Popen(
            [sys.executable, "-m", "hutong_fate.worker", str(folder), str(write)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            pass_fds=(write,),
            env=_environment(),
        )
    os.close(write)

    def relay():
        with os.fdopen(read, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                log.info("%s", line.rstrip())

    relaying = threading.Thread(target=relay, daemon=True)
    relaying.start()
    try:
        code = worker.wait()
    finally:
        if worker.poll() is None:
            worker.kill()
            worker.wait()
    relaying.join(2)
    if code < 0:
        raise TemporaryError(f"FATE was ended by signal {-code}, from outside or for lack of memory")
    try:
        return json.loads((folder / "result.json").read_bytes())
    except (OSError, ValueError):
        raise TaskError(f"FATE ended with status {code} and left no result") from None


def run_task(job: task.Task, metrics: Metrics, folder: Path) -> None:
    """Fetches the inputs, runs FATE and stores the outputs."""
    job.check()
    store = storage.open_storage(job.storage)
    inputs = {}
    for port, address in job.inputs.items():
        try:
            inputs[port] = {"metadata": storage.fetch_object(store, address, folder / "in" / port)}
        except TemporaryError:
            raise
        except TaskError as err:
            raise TaskError(f"input {port}: {err}") from None
    port, addresses = job.model_addresses()
    for address in addresses:
        try:
            inputs[port] = {"metadata": storage.fetch_object(store, address, folder / "in" / port)}
            log.info("model_id: found the model in the storage")
            break
        except TemporaryError:
            raise
        except TaskError:  # another attempt's, or none: then FATE says whether this role needs it
            shutil.rmtree(folder / "in" / port, ignore_errors=True)
    component, stage = job.fate_component()
    server = MetricServer(metrics)
    (folder / "job.json").write_text(
        json.dumps(
            {
                "component": component,
                "stage": stage,
                "task_id": job.task_id,
                "role": job.self_role.role,
                "index": job.self_role.index,
                "node_id": job.self_role.node_id,
                "parties": [{"role": p.role, "node_id": p.node_id} for p in job.parties],
                "federation_id": job.federation_id,
                "transport": job.transport.split("://")[-1].rstrip("/"),
                "token": job.token,
                "cores": job.cores(),
                "parameters": job.parameters,
                "inputs": inputs,
                "metric_url": server.url,
            }
        ),
        encoding="utf-8",
    )
    result = run_worker(folder)
    server.close()
    if result["code"]:
        raise (TemporaryError if result["code"] == TemporaryError.exit_code else TaskError)(result["message"])
    store_outputs(store, job, metrics, folder, result)
    party.release(job)


def store_outputs(store, job: task.Task, metrics: Metrics, folder: Path, result: dict) -> None:
    """Stores all declared outputs. What this role does not have becomes a marker, so that the task is whole."""
    by_port = {one["port"]: one for one in result["outputs"]}
    for port, address in job.outputs.items():
        one = by_port.get(port)
        path = folder / "out" / port
        kind = result["kinds"].get(port)
        if kind is None:
            raise TaskError(f"output {port}: {job.component} has no such output; it has {', '.join(result['kinds'])}")
        if kind == "metric":
            path.write_text(json.dumps(metrics.report()), encoding="utf-8")
            fields = {"data_type": "report", "file_type": "json", "count": 1, "description": "FATE's metrics"}
        elif one is None:
            data = kind == "data"
            path.write_text("id\n" if data else '{"note": "another role has this"}\n', encoding="utf-8")
            columns = [{"name": "id", "type": "string"}] if data else []
            fields = {"data_type": "marker", "file_type": "csv" if data else "json", "count": 0 if data else 1,
                      "description": f"{job.self_role} has no {port}", "columns": columns}
        elif one["kind"] == "data":
            extra = {**one["extra"], "source": job.component}
            fields = {"data_type": "dense", "file_type": "csv", "count": one["count"],
                      "description": f"{port} of FATE's {job.component}", "columns": one["columns"], "extra": extra}
        else:
            fields = {"data_type": "model", "file_type": one["file_type"], "count": 1,
                      "description": f"{port} of FATE's {job.component}", "extra": {"model": one["model"]}}
        storage.store_object(store, address, path, **fields)


def main() -> int:
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    if sys.argv[1:2] == ["register"]:
        from . import registration

        return registration.main(sys.argv[2:])
    if sys.argv[1:]:
        print("usage: python -m hutong_fate [register --help]", file=sys.stderr)
        return 2
    job = task.Task()
    folder = Path(tempfile.mkdtemp(prefix="hutong-fate-"))
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    try:
        try:
            job = task.from_environ(os.environ)
            log.info("task %s, component %s, role %s", job.task_id, job.component, job.self_role)
            metrics = Metrics(job.parameters)
            if job.self_role:
                control.serve(job, metrics)
            run_task(job, metrics, folder)
            code = 0
        except TaskError as err:
            log.error("failed: %s", err)
            code = err.exit_code
        party.report(job, "FAILED" if code else "SUCCESS")
        return code
    except Stopped:
        log.warning("stopped")
        return _EXIT_STOPPED
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
