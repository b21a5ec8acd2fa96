"""The states of BFIA jobs and tasks, and their transitions."""
from fate_flow.entity.types import BaseStateTransitionRule, BaseStatus

JOB = {
    "PENDING": ["READY", "REJECTED"],
    "READY": ["RUNNING", "FINISHED"],
    "RUNNING": ["FINISHED"],
    "REJECTED": [],
    "FINISHED": [],
}
TASK = {
    "PENDING": ["READY", "RUNNING", "SUCCESS", "FAILED"],
    "READY": ["RUNNING", "SUCCESS", "FAILED"],
    "RUNNING": ["SUCCESS", "FAILED"],
    "SUCCESS": [],
    "FAILED": [],
}


def statuses(name, states, rules=None):
    """Returns a class of statuses as the adapter requires it: each state is an attribute whose value is its name."""
    members = {state: state for state in states}
    if rules is not None:
        members["StateTransitionRule"] = type("StateTransitionRule", (BaseStateTransitionRule,), {"RULES": rules})
    return type(name, (BaseStatus,), members)


JobStatus = statuses("JobStatus", JOB, JOB)
TaskStatus = statuses("TaskStatus", TASK, TASK)
EndStatus = statuses("EndStatus", ["FINISHED", "SUCCESS", "FAILED"])
InterruptStatus = statuses("InterruptStatus", ["FAILED"])


class StatusSet(statuses("AnyStatus", [*JOB, *TASK])):
    @classmethod
    def get_level(cls, status):
        order = list(dict.fromkeys([*JOB, *TASK]))
        return order.index(status) if status in order else None
