"""The states of BFIA jobs and tasks, and which may follow which."""
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


def statuses(name, words, rules=None):
    """A class of statuses as the adapter wants it: each word is an attribute whose value is the word."""
    members = {word: word for word in words}
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
