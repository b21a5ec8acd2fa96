"""Trains a model by FATE's own federation, between processes of one machine, without any scheduler.

    standalone.py COMPONENT PARAMETERS FOLDER

PARAMETERS is an object with the parameters of all roles, "common", and with those of "guest" and "host" alone.
The folder has guest.csv and host.csv, such as the outputs of a PSI. The guest's scores go to scores.csv.
"""

import json
import multiprocessing
import os
import shutil
import sys
import traceback
from pathlib import Path
from types import SimpleNamespace

from hutong_fate import metrics, tables, worker

PARTIES = {"guest": "9999", "host": "10000", "arbiter": "10001"}


def run(component: str, parameters: dict, folder: Path, role: str, roles: list) -> None:
    own = folder / role
    worker.pickle_enums_by_value()
    inputs = {}
    if role != "arbiter":
        (own / "in" / "train_data").mkdir(parents=True)
        shutil.copy(folder / f"{role}.csv", own / "in" / "train_data" / "data_0")
        inputs["train_data"] = {"metadata": {"partitions": 1}}
    else:
        own.mkdir()
    server = metrics.MetricServer(metrics.Metrics())
    job = SimpleNamespace(
        folder=own, component=component, stage="train", task_id="standalone", role=role, index=0,
        node_id=PARTIES[role], parties=[{"role": r, "node_id": PARTIES[r]} for r in roles],
        federation_id="standalone", transport="unused:1", token="", cores=2, inputs=inputs,
        parameters={k: json.dumps(v) for k, v in parameters.items()}, metric_url=server.url,
    )
    ours = worker.write_config

    def write_config(*args):
        """FATE's standalone federation: all parties in one folder of tables."""
        config = ours(*args)
        federation = config["conf"]["federation"]
        federation["type"] = "standalone"
        del federation["metadata"]["osx_config"]
        config["conf"]["computing"]["metadata"]["options"]["data_dir"] = str(folder / "shared")
        config["conf"]["computing"]["metadata"]["computing_id"] = role
        return config

    worker.write_config = write_config
    made = worker.Run(job).execute()
    if role == "guest":
        assert any(one["port"] == "train_output_data" for one in made), made
        shutil.copy(own / "out" / "train_output_data", folder / "scores.csv")


def run_and_exit(*args) -> None:
    """FATE's pools would keep the process."""
    code = 1
    try:
        run(*args)
        code = 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main(component: str, parameters: str, folder: str) -> int:
    roles = ["guest", "host"] + (["arbiter"] if component.startswith(("coordinated", "homo")) else [])
    given = json.loads(parameters)
    own = {r: {**(given.get("common") or {}), **(given.get(r) or {})} for r in roles}
    forks = multiprocessing.get_context("spawn")
    processes = {r: forks.Process(target=run_and_exit, args=(component, own[r], Path(folder).resolve(), r, roles))
                 for r in roles}
    for p in processes.values():
        p.start()
    while any(p.is_alive() for p in processes.values()):
        for p in processes.values():
            p.join(0.1)
        if any(p.exitcode for p in processes.values()):  # the others would wait for it
            for p in processes.values():
                p.kill()
    codes = {r: p.exitcode for r, p in processes.items()}
    if any(codes.values()):
        for r in roles:
            log = Path(folder) / r / worker.LOG
            print(r, codes[r], log.read_text()[-3000:] if log.exists() else "")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
