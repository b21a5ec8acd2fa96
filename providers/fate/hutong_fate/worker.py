"""Runs FATE for one task: python -m hutong_fate.worker FOLDER DESCRIPTOR.

The folder has job.json and the inputs. The worker writes FATE's configuration, task.yaml, runs `component execute`
on it, and leaves outputs in out/ and result.json. Lines for the log of the task go to the descriptor.
"""

import ctypes
import enum
import json
import os
import signal
import sys
import tarfile
import traceback
from pathlib import Path
from types import SimpleNamespace

from . import parameters as params
from . import privacy, tables
from .errors import EXIT_TEMPORARY, TaskError

_PR_SET_PDEATHSIG = 1
# What FATE, or gRPC, writes when its transport, or a process of its own, goes away.
_TEMPORARY = ("StatusCode.UNAVAILABLE", "StatusCode.CANCELLED", "StatusCode.DEADLINE_EXCEEDED", "BrokenProcessPool")
# The log of FATE's worker in the folder. It may hold rows, and leaves this machine never.
LOG = "fate.log"


def die_with_parent() -> None:
    """Has the kernel end this process with its parent, and those that it forks likewise."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    except (OSError, AttributeError):
        pass  # not on Linux


def pickle_enums_by_value() -> None:
    """Pickles enums as other versions of Python do: by class and value.

    Python 3.11.0 to 3.11.3, so Debian 12's, pickle them as calls of getattr. FATE at the partner refuses those, and
    must: getattr reaches everything.
    """
    if enum.Enum.__reduce_ex__(signal.SIGTERM, 2)[0] is getattr:
        enum.Enum.__reduce_ex__ = lambda self, protocol: (self.__class__, (self._value_,))


def send_token(token: str) -> None:
    """Adds the token to FATE's calls of the transport. BFIA part 4 requires it, and FATE sends none."""
    from fate.arch.federation.backends.osx import _mq_channel

    if not token:
        return

    def with_token(prepare):
        return lambda self: [*prepare(self), ("x-ptp-token", token)]

    channel = _mq_channel.MQChannel
    channel.prepare_metadata = with_token(channel.prepare_metadata)
    channel.prepare_metadata_consume = with_token(channel.prepare_metadata_consume)


def load(job):
    """Returns FATE's component and stage. A role without inputs, such as the arbiter, trains as well."""
    from fate.components.core import Stage, load_component

    component = load_component(job.component)
    stage = job.stage or ("train" if component.stage_components else "default")
    return load_component(job.component, Stage.from_str(stage)), Stage.from_str(stage)


def of_other_stages(name: str) -> set:
    """Returns the names of the parameters of all stages of a component."""
    from fate.components.core import load_component

    component = load_component(name)
    return {p for one in (component, *component.stage_components) for p in one.parameters.mapping}


def ports_of(described, role, stage) -> dict:
    """Returns the ports that a role has."""
    return {name: a for name, a in described.items() if a.is_active_for(stage, role)}


def given(port: str, multiple: bool, names) -> list:
    """Returns the names under which a port is given: input_datas, input_datas_2, ..."""
    return [n for n in names if n == port or multiple and n.startswith(port + "_") and n[len(port) + 1 :].isdecimal()]


def write_config(job, component, stage, accepted: dict, inputs: dict, outputs: dict) -> dict:
    """Returns FATE's configuration of the task."""
    parties = [{"role": p["role"], "partyid": p["node_id"]} for p in job.parties]
    local = {"role": job.role, "partyid": job.node_id}
    host, _, port = job.transport.rpartition(":")
    return {
        "task_id": job.task_id,
        "party_task_id": f"{job.task_id}_{job.role}_{job.index}",
        "task_name": job.component,
        "component": job.component,
        "role": job.role,
        "party_id": job.node_id,
        "stage": stage.name,
        "parameters": accepted,
        "input_artifacts": inputs,
        "output_artifacts": outputs,
        "conf": {
            "device": {"type": "CPU", "metadata": {}},
            "computing": {
                "type": "standalone",
                "metadata": {
                    "computing_id": f"{job.task_id}_{job.role}_{job.index}",
                    "options": {"data_dir": str(job.folder / "tables"), "task_cores": job.cores},
                },
            },
            "federation": {
                "type": "osx",
                "metadata": {
                    "federation_id": job.federation_id,
                    "parties": {"local": local, "parties": parties},
                    "osx_config": {"host": host.strip("[]"), "port": int(port)},
                },
            },
            "storage": "standalone",
            "logger": {"config": log_config(job.folder / LOG)},
        },
    }


def log_config(path: Path) -> dict:
    """FATE's own log goes to a file that is removed with the task."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"plain": {"format": "%(levelname)s %(name)s %(message)s"}},
        "handlers": {"file": {"class": "logging.FileHandler", "filename": str(path), "formatter": "plain"}},
        "root": {"level": "WARNING", "handlers": ["file"]},
    }


def unpack(path: Path, folder: Path) -> None:
    """Unpacks the folder of a model. Debian 12's Python 3.11.2 has no extraction filter that does this."""
    folder.mkdir()
    with tarfile.open(path) as archive:
        for member in archive:
            inside = (folder / member.name).resolve().is_relative_to(folder.resolve())
            if not inside or not (member.isfile() or member.isdir()):
                raise TaskError("the model's archive has an entry that is no file or folder below it")
            archive.extract(member, folder, set_attrs=False)


class Run:
    """One task in its folder."""

    def __init__(self, job):
        from fate.components.core import Role

        self.job = job
        self.component, self.stage = load(job)
        self.role = Role.from_str(job.role)
        self.artifacts = self.component.artifacts
        self.own, self.columns = params.split(
            job.parameters, list(self.component.parameters.mapping), of_other_stages(job.component)
        )
        self.accepted = params.check(self.component, self.own)
        self.names = set()
        self._sources = {}

    def context(self, config: dict):
        """Returns a context as `component execute` makes it, for tables before and after."""
        from fate.arch import CipherKit, Context
        from fate.components.core import load_computing, load_device, load_federation
        from fate.components.core.spec.task import TaskConfigSpec

        spec = TaskConfigSpec.parse_obj(config)
        device = load_device(spec.conf.device)
        computing = load_computing(spec.conf.computing, spec.conf.logger.config)
        federation = load_federation(spec.conf.federation, computing)
        return Context(device=device, computing=computing, federation=federation, cipher=CipherKit(device=device))

    def missing(self) -> bool:
        """Returns whether this role has nothing to do: the results that it would read are another role's."""
        needed = ports_of(self.artifacts.data_inputs, self.role, self.stage)
        alone = not self.artifacts.data_outputs and not self.artifacts.model_outputs
        found = [self.job.inputs[n] for p, a in needed.items() for n in given(p, a.is_multi, self.job.inputs)]
        return alone and bool(found) and all(i["metadata"].get("data_type") == "marker" for i in found)

    def read_inputs(self, ctx) -> dict:
        inputs = {}
        for port, described in ports_of(self.artifacts.data_inputs, self.role, self.stage).items():
            artifacts = [
                self.read_table(ctx, name)
                for name in given(port, described.is_multi, self.job.inputs)
                if self.job.inputs[name]["metadata"].get("data_type") != "marker"
            ]
            self._put(inputs, port, described, artifacts)
        for port, described in ports_of(self.artifacts.model_inputs, self.role, self.stage).items():
            artifacts = [
                self.read_model(name)
                for name in given(port, described.is_multi, self.job.inputs)
                if self.job.inputs[name]["metadata"].get("data_type") != "marker"
            ]
            self._put(inputs, port, described, artifacts)
        return inputs

    def _put(self, inputs: dict, port: str, described, artifacts: list) -> None:
        if artifacts:
            inputs[port] = artifacts if described.is_multi else artifacts[0]
        elif not described.optional:
            raise TaskError(f"input {port}: is required by {self.job.component} as {self.job.role}")

    def read_table(self, ctx, name: str) -> dict:
        from fate.arch import URI, dataframe

        source = self.job.inputs[name]
        try:
            header, rows = tables.read_csv(self.job.folder / "in" / name, source["metadata"]["partitions"])
            columns = tables.layout(header, source["metadata"], self.columns)
            self.names.update(header)
            df = tables.dataframe_of(ctx, tables.frame_of(header, rows, columns), columns)
        except TaskError as err:
            raise TaskError(f"input {name}: {err}") from None
        say(f"input {name}: {len(rows)} rows, {len(columns.dtypes)} features")
        uri = f"standalone://{self.job.folder}/tables/{self.job.role}_{self.job.index}_input/{name}"
        table = dataframe.serialize(ctx, df)
        table.save(uri=URI.from_string(uri), schema=(schema := {}), options={"partitions": tables.PARTITIONS})
        kept = (source["metadata"].get("metadata") or {}).get("source")
        return {
            "uri": uri,
            "type_name": "dataframe",
            "metadata": {
                "metadata": {"schema": schema, "options": {"partitions": tables.PARTITIONS}},
                "source": self._source(kept or name),
            },
        }

    def _source(self, name: str) -> dict:
        """Names where an artifact comes from; the evaluation calls its results so."""
        self._sources[name] = self._sources.get(name, 0) + 1
        if self._sources[name] > 1:
            name = f"{name}_{self._sources[name]}"
        keys = ("task_id", "party_task_id", "task_name", "component", "output_artifact_key")
        return {key: name for key in keys}

    def read_model(self, name: str) -> dict:
        metadata = self.job.inputs[name]["metadata"]
        path = self.job.folder / "in" / name / "data_0"
        type_name = "json_model"
        if metadata.get("file_type") == "tar.gz":
            type_name, folder = "model_directory", path.with_name("model")
            try:
                unpack(path, folder)
            except TaskError as err:
                raise TaskError(f"input {name}: {err}") from None
            path = folder
        extra = (metadata.get("metadata") or {}).get("model") or {}
        return {
            "uri": f"file://{path}",
            "type_name": type_name,
            "metadata": {"metadata": extra, "source": self._source(name)},
        }

    def output_artifacts(self) -> dict:
        out = {"metric": {"uri": self.job.metric_url, "type_name": "json_metric"}}
        for port, a in ports_of(self.artifacts.data_outputs, self.role, self.stage).items():
            name = f"{self.job.role}_{self.job.index}_output/{port}" + ("_{index}" if a.is_multi else "")
            out[port] = {"uri": f"standalone://{self.job.folder}/tables/{name}", "type_name": "dataframe"}
        for port, a in ports_of(self.artifacts.model_outputs, self.role, self.stage).items():
            kind = a.types[0].get_type().type_name
            name = port + ("_{index}" if a.is_multi else "") + ("" if kind == "model_directory" else ".json")
            out[port] = {"uri": f"file://{self.job.folder}/model/{name}", "type_name": kind}
        return out

    def collect(self, ctx, meta: dict) -> list:
        """Turns what FATE has written into files, and returns what is in them."""
        from fate.arch import URI, dataframe

        made = []
        for port, found in meta["outputs"]["data"].items():
            artifacts = [a for a in (found if isinstance(found, list) else [found]) if a["consumed"]]
            frames = []
            for a in artifacts:
                kept = a["metadata"]["metadata"]
                table = ctx.computing.load(
                    uri=URI.from_string(a["uri"]), schema=kept.get("schema"), options=kept.get("options")
                )
                frames.append(dataframe.deserialize(ctx, table))
            if frames:
                path = self.job.folder / "out" / port
                made.append({"port": port, "kind": "data", **tables.write_csv(frames, path, isinstance(found, list))})
                say(f"output {port}: {made[-1]['count']} rows")
        for port, a in meta["outputs"]["model"].items():
            if isinstance(a, list) or not a["consumed"]:
                continue
            source = Path(a["uri"][len("file://") :])
            target = self.job.folder / "out" / port
            kind = "json"
            if source.is_dir():
                kind = "tar.gz"
                with tarfile.open(target, "w:gz") as archive:
                    for entry in sorted(source.iterdir()):
                        archive.add(entry, arcname=entry.name)
            else:
                os.replace(source, target)
            made.append({"port": port, "kind": "model", "file_type": kind, "model": a["metadata"]["metadata"]})
        return made

    def kinds(self) -> dict:
        """Returns the kind of each output, whichever role has it."""
        a = self.artifacts
        return {
            port: kind
            for kind, ports in (("data", a.data_outputs), ("model", a.model_outputs), ("metric", a.metric_outputs))
            for port in ports
        }

    def execute(self) -> list:
        from fate.components.entrypoint.cli.component.execute_cli import execute

        (self.job.folder / "out").mkdir()
        if self.missing():
            say("the results to evaluate are another role's")
            return []
        config = write_config(self.job, self.component, self.stage, self.accepted, {}, self.output_artifacts())
        ctx = self.context(config)
        config["input_artifacts"] = self.read_inputs(ctx)
        path, final = self.job.folder / "task.yaml", self.job.folder / "execution.json"
        path.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
        say(f"running FATE's {self.job.component}, stage {self.stage.name}, {self.job.cores} processes")
        execute.main(
            ["--config", str(path), "--execution-final-meta-path", str(final)], standalone_mode=False
        )
        return self.collect(ctx, json.loads(final.read_bytes())["io_meta"])


_log_descriptor = 2


def say(message: str) -> None:
    """Passes a line on to the log of the task. Nothing of FATE's goes there."""
    os.write(_log_descriptor, (message + "\n").encode())


def explain(err: BaseException, run, folder: Path) -> dict:
    """Returns the failure in FATE's own words, without the rows that they may hold."""
    trace = traceback.format_exc()
    if isinstance(err, TaskError):
        return {"code": err.exit_code, "message": str(err)}
    try:
        logged = (folder / LOG).read_text(encoding="utf-8", errors="replace")[-(1 << 20) :]
    except OSError:
        logged = ""
    names = run.names if run else ()
    csvs = list(folder.glob("in/*/data_*")) + list(folder.glob("out/*"))
    for mark in _TEMPORARY:
        if mark in trace or mark in logged:
            return {"code": EXIT_TEMPORARY, "message": f"FATE lost its transport or a process of its own ({mark})"}
    frames = [f for f in traceback.extract_tb(err.__traceback__) if f"{os.sep}fate{os.sep}" in f.filename]
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    message = f"{type(err).__name__}: {err}" if str(err) else type(err).__name__
    cause = err.__cause__
    if cause is not None and str(cause) not in message:
        text = next((line for line in str(cause).splitlines() if line.strip(' "')), "")
        message += f"; caused by {type(cause).__name__}: {text}"
    return {"code": 1, "message": privacy.redact(message, csvs, names) + place}


def main(folder: Path) -> int:
    die_with_parent()
    pickle_enums_by_value()
    os.register_at_fork(after_in_child=die_with_parent)
    job = SimpleNamespace(**json.loads((folder / "job.json").read_bytes()), folder=folder)
    run, result = None, {"code": 0}
    try:
        run = Run(job)
        result["kinds"] = run.kinds()
        send_token(job.token)
        result["outputs"] = run.execute()
    except BaseException as err:
        result = explain(err, run, folder)
    temporary = folder / "result.json.part"
    temporary.write_text(json.dumps(result), encoding="utf-8")
    os.replace(temporary, folder / "result.json")
    return result["code"]


if __name__ == "__main__":
    _log_descriptor = int(sys.argv[2])
    os.set_inheritable(_log_descriptor, False)
    code = main(Path(sys.argv[1]))
    sys.stdout.flush()
    os._exit(code)  # FATE's pools may still hold processes
