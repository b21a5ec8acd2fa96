"""Reads a task from the environment (BFIA API_SPECS, part 3, sections 3.3 and 3.4)."""

import json
import os
import uuid
from dataclasses import dataclass, field
from typing import Dict, List, Mapping, Optional

from .errors import TaskError

_PLAIN = {
    "runtime.component.name": "component",
    "config.task_id": "task_id",
    "config.session_id": "session_id",
    "config.trace_id": "trace_id",
    "config.token": "token",
    "config.n_threads": "n_threads",
    "system.storage": "storage",
    "system.transport": "transport",
    "system.callback": "callback",
    "system.control_port": "control_port",
}
# A task can't run without these. Others are optional, or needed by some components only.
_REQUIRED = ("config.task_id", "config.session_id", "config.self_role", "system.storage", "system.transport")

# Hutong's ids of tasks are UUIDs of version 5: of job/task, and of job/task/attempt from the second attempt on.
_TASKS = uuid.UUID("6f1d6a2e-5c1e-4d5a-9a68-0c8a4b6d9f11")
_ATTEMPTS = 5

STAGES = {"_predict": "predict", "_cv": "cross_validation"}


@dataclass(frozen=True)
class Party:
    """One role at one node, such as guest.0."""

    role: str
    index: int
    node_id: str = ""

    def __str__(self) -> str:
        return f"{self.role}.{self.index}"


@dataclass(frozen=True)
class Address:
    """The place of a dataset, model or report in the storage."""

    namespace: str
    name: str


@dataclass
class Task:
    """All that a scheduler passes to a container."""

    component: str = ""  # the name in the registration: hetero_secureboost_predict
    task_id: str = ""
    session_id: str = ""
    trace_id: str = ""
    token: str = ""
    n_threads: str = ""
    storage: str = ""
    transport: str = ""
    callback: str = ""
    control_port: str = ""
    self_role: Optional[Party] = None
    parties: List[Party] = field(default_factory=list)
    parameters: Dict[str, str] = field(default_factory=dict)
    inputs: Dict[str, Address] = field(default_factory=dict)
    outputs: Dict[str, Address] = field(default_factory=dict)

    @property
    def federation_id(self) -> str:
        """The session of this task. FATE's topics don't name the task, so tasks of a job must not share one."""
        suffix = "_" + self.task_id
        return self.session_id if self.session_id.endswith(suffix) else self.session_id + suffix

    def fate_component(self):
        """Returns FATE's name of the component, and the stage that the registration's name stands for."""
        for suffix, stage in STAGES.items():
            if self.component.endswith(suffix):
                return self.component[: -len(suffix)], stage
        return self.component, ""

    def model_addresses(self) -> tuple:
        """Returns the input that the parameter model_id is for, and where the model may be.

        Hutong names the model of an earlier job by job:task.output, and gives it to the task as an input. A FATE-Flow
        in the same job passes the parameter on without the input. The model is stored as its job's task
        stored it, under the id of the attempt that went well.
        """
        port = "input_model" if self.fate_component()[1] == "predict" else "warm_start_model"
        text = str(self.parameters.get("model_id", "")).strip('" ')
        if not text or port in self.inputs:
            return port, []
        job, _, rest = text.partition(":")
        name, _, output = rest.partition(".")
        if not job or not name or "/" in rest or not self.self_role:
            raise TaskError(f"parameter model_id: {text[:80]!r} is not of the form job:task.output")
        party, output = self.self_role, output or "output_model"
        namespace = f"{party.role}-{party.node_id}-model-{output}"
        names = [f"{job}/{name}"] + [f"{job}/{name}/{attempt}" for attempt in range(2, _ATTEMPTS + 1)]
        return port, [Address(namespace, str(uuid.uuid5(_TASKS, n))) for n in reversed(names)]

    def check(self) -> None:
        """Fails if a variable is missing, or if FATE can't run such a task."""
        given = {key: getattr(self, name) for key, name in _PLAIN.items()}
        given["config.self_role"] = self.self_role
        for key in _REQUIRED:
            if not given[key]:
                raise TaskError(f"variable {key}: is required (a start script under dash drops names with dots)")
        if not self.self_role.node_id:
            raise TaskError(f"variable config.node_id.{self.self_role}: is required")
        seen: Dict[tuple, Party] = {}
        for party in self.parties:
            other = seen.setdefault((party.role, party.node_id), party)
            if other is not party:
                raise TaskError(f"config.node_id: {other} and {party} are one party, {party.node_id}; FATE needs two")

    def cores(self) -> int:
        """Returns how many processes FATE may use: what the scheduler grants, else what the container has."""
        if self.n_threads:
            try:
                return max(1, int(float(self.n_threads)))
            except ValueError:
                raise TaskError(f"variable config.n_threads: {self.n_threads[:40]!r} is not a number") from None
        return max(1, min(int(_cgroup_cores() or os.cpu_count() or 1), os.cpu_count() or 1))


def from_environ(environ: Mapping[str, str]) -> Task:
    """Reads a task; os.environ keeps the dots in the variables' names. It does not check what is required."""
    task = Task()
    if not environ.get("runtime.component.name"):
        raise TaskError("variable runtime.component.name: is required; it names the component")
    self_role = ""
    for key, value in sorted(environ.items()):
        if key in _PLAIN:
            setattr(task, _PLAIN[key], value)
        elif key == "config.self_role":
            self_role = value
        elif key.startswith("config.node_id."):
            party = _party(key, key[len("config.node_id.") :])
            task.parties.append(Party(party.role, party.index, value))
        elif key.startswith("runtime.component.parameter."):
            task.parameters[key[len("runtime.component.parameter.") :]] = value
        elif key.startswith("runtime.component.input."):
            task.inputs[key[len("runtime.component.input.") :]] = _address(key, value)
        elif key.startswith("runtime.component.output."):
            task.outputs[key[len("runtime.component.output.") :]] = _address(key, value)
    task.parties.sort(key=lambda p: (p.role, p.index))
    if self_role:
        me = _party("config.self_role", self_role)
        nodes = [p for p in task.parties if (p.role, p.index) == (me.role, me.index)]
        task.self_role = nodes[0] if nodes else me
    return task


def _party(key: str, text: str) -> Party:
    role, _, index = text.partition(".")
    if not role or not (index or "0").isdecimal():
        raise TaskError(f"variable {key}: {text[:60]!r} is not a role and its number, such as guest.0")
    return Party(role, int(index or "0"))


def _address(key: str, text: str) -> Address:
    try:
        fields = json.loads(text)
        address = Address(fields["namespace"], fields["name"])
    except (ValueError, KeyError, TypeError):
        raise TaskError(f"variable {key}: must be JSON with name and namespace") from None
    for part in (address.namespace, address.name):
        if not isinstance(part, str) or part in ("", ".", "..") or "/" in part or "\0" in part:
            raise TaskError(f"variable {key}: name and namespace must be names without a slash")
    return address


def _cgroup_cores() -> Optional[float]:
    """Returns the CPUs of a container with a limit, else None."""
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as f:
            quota, period = f.read().split()[:2]
        return None if quota == "max" else max(1.0, float(quota) / float(period))
    except (OSError, ValueError):
        return None
