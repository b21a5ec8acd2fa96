"""Reads parameters, which arrive as text, and has FATE check them by its own schemas."""

import difflib
import json
from typing import Dict

from .errors import TaskError

# What the scheduler adds to the parameters of a task: the address of its dataset, and the name of its model.
ADDRESS = ("dataset_id", "namespace", "name", "model_id")
# Parameters of this provider: the names of columns of the datasets.
COLUMNS = ("id", "label", "weight")
_WORDS = {"True": True, "False": False, "None": None, "true": True, "false": False, "null": None, "": None}


def value_of(text: str):
    """Returns the value that a text stands for: JSON, Python's words, or the text itself."""
    text = text.strip()
    if text in _WORDS:
        return _WORDS[text]
    try:
        return json.loads(text)
    except ValueError:
        return text


def split(parameters: Dict[str, str], known, of_other_stages=()) -> tuple:
    """Separates FATE's parameters from the names of columns. It refuses unknown ones.

    Those of the component's other stages are left out, as FATE leaves them out: a deployed pipeline of FATE
    predicts with the parameters of its training.
    """
    own, columns = {}, {}
    for name, text in parameters.items():
        if name in known:
            own[name] = text
        elif name in COLUMNS:
            columns[name] = str(value_of(text) or "")
        elif name not in ADDRESS and name not in of_other_stages:
            near = difflib.get_close_matches(name, [*known, *COLUMNS], n=1)
            hint = f'; did you mean "{near[0]}"?' if near else f"; it has {', '.join([*known, *COLUMNS])}"
            raise TaskError(f"parameter {name}: the component has no such parameter{hint}")
    return own, {k: v for k, v in columns.items() if v}


def check(component, parameters: Dict[str, str]) -> dict:
    """Returns the values for FATE, as its schemas accept them. An error has FATE's own words."""
    accepted = {}
    for name, text in parameters.items():
        describe = component.parameters.mapping[name]
        value = value_of(text)
        if value is None:
            if not describe.optional:
                raise TaskError(f"parameter {name}: is required")
            continue
        candidates = [value] if not isinstance(value, (int, float)) else [value, text.strip()]
        error = None
        for candidate in candidates:  # a text parameter may look like a number
            try:
                describe.apply(candidate)
                accepted[name], error = candidate, None
                break
            except Exception as err:  # FATE raises its own types, with pydantic's as the cause
                error = error or err
        if error is not None:
            raise TaskError(f"parameter {name}: {_words(error)}")
    for name, describe in component.parameters.mapping.items():
        if name not in accepted and not describe.optional and describe.default is ...:
            raise TaskError(f"parameter {name}: is required")
    return accepted


def _words(error: Exception) -> str:
    """Returns the words of the check that failed. FATE wraps them in the value that it was given."""
    cause = error.__cause__ or error
    errors = getattr(cause, "errors", None)
    if callable(errors):
        parts = []
        for one in errors():
            where = ".".join(str(p) for p in one["loc"] if p != "__root__")
            parts.append(f"{where}: {one['msg']}" if where else one["msg"])
        return "; ".join(parts)
    return " ".join(str(cause).split())
