"""Runs a vendor's components with FATE's pipeline.

pipeline.py PROVIDER.json GUEST HOST GUEST.csv

PROVIDER.json is the registration of the vendor's provider. For each of its components a class is made, with the
YAML file that the pipeline reads; a user would write both by hand.
"""
import json
import os
import sys
import tempfile

from fate_client.pipeline import FateFlowPipeline
from fate_client.pipeline.components.component_base import Component
from fate_client.pipeline.conf.types import PlaceHolder
from fate_client.pipeline.interface import DataWarehouseChannel

registration, guest, host, rows = sys.argv[1:]
with open(registration) as file:
    provider = json.load(file)


def kind(port):
    category = port["category"]
    return "data" if "data" in category else "model" if "model" in category else "metric"


def vendor(name):
    """Returns a class for a component of the provider."""
    description = provider["components_description"][name]

    def artifacts(ports, kinds):
        found = {kind: {} for kind in kinds}
        for port in ports:
            found[kind(port)][port["name"]] = {
                "types": ["dataframe"], "optional": True, "stages": ["default"], "roles": description["roleList"],
                "description": "", "is_multi": False}
        return found

    spec = {"component": {
        "name": name, "description": "", "provider": provider["name"], "version": provider["version"], "labels": [],
        "roles": description["roleList"],
        "parameters": {p["name"]: {"type": "str", "default": None, "optional": True, "description": ""}
                       for p in description["inputParam"]},
        "input_artifacts": artifacts(description["inputData"], ["data", "model"]),
        "output_artifacts": artifacts(description["outputData"], ["data", "model", "metric"])}}
    handle, path = tempfile.mkstemp(suffix=".yaml")
    with os.fdopen(handle, "w") as file:
        json.dump(spec, file)

    def init(self, _name, runtime_parties=None, **given):
        values = {p["name"]: PlaceHolder() for p in description["inputParam"] + description["inputData"]}
        values.update(given)
        self._process_init_inputs(dict(values, _name=_name, runtime_parties=runtime_parties))
        Component.__init__(self)
        self._name = _name
        self.runtime_parties = runtime_parties
        for key, value in values.items():
            setattr(self, key, value)

    return type(name, (Component,), {"yaml_define_path": path, "__init__": init})


def new_pipeline(arbiter=None):
    pipeline = FateFlowPipeline().set_parties(guest=guest, host=host, arbiter=arbiter)
    pipeline.set_site_role("guest")
    pipeline.set_site_party_id(guest)
    pipeline.protocol_kind = "bfia"
    pipeline.conf.set("extra", dict(initiator={"party_id": guest, "role": "guest"}))
    return pipeline


new_pipeline().transform_local_file_to_dataframe(
    file=rows, head=True, namespace="demo", name="breast_guest", extend_sid=False,
    meta={"delimiter": ",", "match_id_name": "id", "label_name": "y"})

results = {}
for name, trainer, arbiter, parameters in [
    ("boost", "HeteroSecureBoost", None, {"num_trees": 2, "tree_param": {"max_depth": 3}}),
    ("lr", "HeteroLR", host, {"max_iter": 2}),
]:
    pipeline = new_pipeline(arbiter)
    join = vendor("Intersection")("join", id="id", train_data=[
        DataWarehouseChannel(dataset_id="demo#breast_guest", parties=dict(guest=guest)),
        DataWarehouseChannel(dataset_id="demo#breast_host", parties=dict(host=host))])
    train = vendor(trainer)("train", id="id", label="y", train_data=join.outputs["train_data"], **parameters)
    pipeline.add_tasks([join, train])
    pipeline.compile()
    pipeline.fit()
    joined = pipeline.get_task_info("join").get_output_data()
    info = pipeline.get_task_info("train")
    results[name] = {"joined": len(joined["train_data"]), "predictions": len(info.get_output_data()["train_data"]),
                     "model": bool(info.get_output_model()),
                     "metrics": sorted(metric["name"] for metric in info.get_output_metric())}
print("results:", json.dumps(results))
