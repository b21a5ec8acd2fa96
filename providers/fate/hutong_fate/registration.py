"""Makes the registration of this provider from FATE's own descriptions of its components."""

import argparse
import json
import sys

from . import parameters as params
from .task import STAGES

# Components that read files of FATE's own, or are there to test FATE.
LEFT_OUT = ("reader", "dataframe_transformer", "toy_example", "artifact_test", "cv_test2", "dataframe_io_test",
            "multi_model_test")
# A port for several artifacts is described this many times: input_datas, input_datas_2, ...
MULTIPLE = 4
_COLUMNS = {
    "id": "the dataset's column of ids",
    "label": "the dataset's column of labels, where it has one",
    "weight": "the dataset's column of weights, where it has one",
}


def describe(component, name: str, stage: str) -> dict:
    """Returns the BFIA description of one stage of a component (API_SPECS, part 2, 6.1)."""
    from fate import __version__

    known = component.parameters.mapping
    artifacts = component.artifacts
    own = [_parameter(n, p) for n, p in known.items()]
    if artifacts.data_inputs:
        own += [_column(n, text) for n, text in _COLUMNS.items() if n not in known]
    inputs = [(p, a, "dataset") for p, a in artifacts.data_inputs.items()]
    inputs += [(p, a, "model") for p, a in artifacts.model_inputs.items()]
    outputs = [(p, a, "dataset", "csv") for p, a in artifacts.data_outputs.items()]
    outputs += [(p, a, "model", "json") for p, a in artifacts.model_outputs.items()]
    outputs += [(p, a, "report", "json") for p, a in artifacts.metric_outputs.items()]
    title = f"FATE {component.name if component.name not in ('train', 'predict', 'cross_validation') else name}"
    return {
        "componentName": name,
        "title": f"{title} {stage}".strip(),
        "provider": "fate",
        "version": __version__,
        "description": component.description or f"FATE's {name}",
        "roleList": [r.name for r in component.roles],
        "desVersion": "1.3.0",
        "storageEngine": ["s3", "file"],
        "inputParam": own,
        "inputData": [
            {"name": p if n == 1 else f"{p}_{n}", "description": _port(a), "category": kind,
             "dataFormat": ["csv" if kind == "dataset" else "json"]}
            for p, a, kind in inputs
            for n in range(1, (MULTIPLE if a.is_multi else 1) + 1)
        ],
        "outputData": [
            {"name": p, "description": _port(a), "category": kind, "dataFormat": [fmt]}
            for p, a, kind, fmt in outputs
        ],
        "result": [
            {"resultCode": "0", "resultMessage": "success"},
            {"resultCode": "1", "resultMessage": "failed; the log has FATE's words"},
            {"resultCode": "75", "resultMessage": "failed for a reason outside of the task; try again"},
            {"resultCode": "143", "resultMessage": "stopped"},
        ],
    }


def _port(described) -> str:
    roles = ", ".join(r.name for r in described.roles)
    return " ".join(p for p in (described.desc, "optional," if described.optional else "", f"of {roles}") if p)


def _column(name: str, text: str) -> dict:
    return {"name": name, "title": name, "description": text, "type": "string", "optional": "true",
            "UIPattern": "editeable", "groupTag": "columns", "UIType": "input"}


def _parameter(name: str, describe) -> dict:
    """Returns a parameter with what FATE's JSON schema says of it."""
    spec = describe.get_parameter_spec()
    schema = spec.type_meta if isinstance(spec.type_meta, dict) else {}
    required = not describe.optional and describe.default is ...
    one = {
        "name": name,
        "title": name,
        "description": spec.description or "",
        "type": _type(schema),
        "optional": "false" if required else "true",
        "UIPattern": "editeable",
        "groupTag": "parameters",
        "UIType": "input",
    }
    default = json.loads(json.dumps(spec.default, default=lambda v: v.dict() if hasattr(v, "dict") else str(v)))
    if default is not None:
        text = default if isinstance(default, str) else json.dumps(default)
        one["defaultValue"] = text
    if (rule := bounds(schema)) is not None and one["type"] in ("integer", "float"):
        one["validator"] = rule
    if choices := schema.get("enum"):
        one["bindingData"] = [{"label": str(c), "value": str(c)} for c in choices]
        one["UIType"] = "select"
    return one


def _type(schema: dict) -> str:
    """Returns BFIA's name of a type. A type that FATE has several of is text, which nothing contradicts."""
    return {"integer": "integer", "number": "float", "boolean": "boolean", "string": "string"}.get(
        schema.get("type"), "object" if schema.get("type") == "object" else "string"
    )


def bounds(schema: dict):
    """Returns the interval of a JSON schema in BFIA's form, such as (0,1], or None."""
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if all(v is None for v in (low, high, above, below)):
        return None
    left = f"({above}" if above is not None else "(inf" if low is None else f"[{low}"
    right = f"{below})" if below is not None else "sup)" if high is None else f"{high}]"
    return f"{left},{right}"


def components():
    """Yields the BFIA name, FATE's component and its stage, of all that are registered."""
    from fate.components.components import LazyBuildInComponentsLoader
    from fate.components.core import load_component

    suffixes = {stage: suffix for suffix, stage in STAGES.items()}
    for name in sorted(LazyBuildInComponentsLoader().list()):
        if name in LEFT_OUT:
            continue
        component = load_component(name)
        for stage in component.stage_components or [component]:
            yield name + suffixes.get(stage.name, ""), stage, stage.name if stage is not component else ""


def registration(device: str, metadata: dict) -> dict:
    from fate import __version__

    return {
        "name": "fate",
        "version": __version__,
        "device": device,
        "protocol": "bfia",
        # FATE's topics don't name the task.
        "metadata": {**metadata, "session": "task"},
        "components_description": {name: describe(c, name, stage) for name, c, stage in components()},
    }


def main(arguments: list) -> int:
    parser = argparse.ArgumentParser(prog="hutong_fate register", description=__doc__)
    parser.add_argument("--image", help="for devices docker and k8s: the image")
    parser.add_argument("--command", nargs="+", help="for the device process: the program and its arguments")
    parser.add_argument("--device", choices=("docker", "k8s", "process"))
    args = parser.parse_args(arguments)
    if bool(args.image) == bool(args.command):
        parser.error("one of --image and --command is required")
    device = args.device or ("docker" if args.image else "process")
    metadata = {"image": args.image} if args.image else {"command": args.command}
    if device == "docker":
        metadata["base_url"] = ""  # of the Docker Engine; FATE-Flow requires it
    json.dump(registration(device, metadata), sys.stdout, indent=2, ensure_ascii=False)
    print()
    return 0
