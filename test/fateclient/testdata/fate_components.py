"""Trains, deploys, predicts and validates FATE's own components with FATE's pipeline, in DAGs of kind fate.

fate_components.py GUEST HOST NAMESPACE GUEST_DATASET HOST_DATASET [partner]

With partner it only joins the rows, trains and predicts.
"""
import json
import os
import sys
import tempfile

from fate_client.pipeline import FateFlowPipeline
from fate_client.pipeline.components.fate import PSI, Evaluation, HeteroSecureBoost, Reader
from fate_client.pipeline.interface import DataWarehouseChannel

guest, host, namespace, guest_rows, host_rows = sys.argv[1:6]


def reader(name):
    task = Reader(name, runtime_parties=dict(guest=guest, host=host))
    task.guest.task_parameters(namespace=namespace, name=guest_rows)
    task.hosts[0].task_parameters(namespace=namespace, name=host_rows)
    return task


def rows(pipeline, task):
    return {port: len(frame) for port, frame in pipeline.get_task_info(task).get_output_data().items()}


def predict_with(pipeline):
    """Deploys a trained pipeline, and predicts with it."""
    pipeline.deploy([pipeline.psi_0, pipeline.sbt_0])
    deployed = pipeline.get_deployed_pipeline()
    read = reader("reader_1")
    deployed.psi_0.input_data = read.outputs["output_data"]
    predicting = FateFlowPipeline()
    predicting.add_tasks([read, deployed])
    predicting.compile()
    predicting.predict()
    return predicting


results = {}

pipeline = FateFlowPipeline().set_parties(guest=guest, host=host)
read = reader("reader_0")
psi = PSI("psi_0", input_data=read.outputs["output_data"])
if sys.argv[6:] == ["partner"]:
    boost = HeteroSecureBoost("sbt_0", num_trees=2, max_depth=3, train_data=psi.outputs["output_data"])
    pipeline.add_tasks([read, psi, boost])
    pipeline.compile()
    pipeline.fit()
    results = {"job": pipeline.model_info.job_id, "joined": rows(pipeline, "psi_0"),
               "trained": rows(pipeline, "sbt_0")}
    predicting = predict_with(pipeline)
    results.update({"prediction": predicting.model_info.job_id, "predicted": rows(predicting, "sbt_0")})
    print("results:", json.dumps(results))
    sys.exit()

boost = HeteroSecureBoost("sbt_0", num_trees=2, max_depth=3, train_data=psi.outputs["output_data"],
                          validate_data=psi.outputs["output_data"])
evaluation = Evaluation("evaluation_0", runtime_parties=dict(guest=guest), metrics=["auc"],
                        input_datas=[boost.outputs["train_output_data"]])
pipeline.add_tasks([read, psi, boost, evaluation])
pipeline.compile()
pipeline.fit()
results["train"] = {
    "joined": rows(pipeline, "psi_0"), "predictions": rows(pipeline, "sbt_0"),
    "model": sorted(pipeline.get_task_info("sbt_0").get_output_model()),
    "metrics": sorted({one["name"] for one in pipeline.get_task_info("sbt_0").get_output_metric()}),
}

results["evaluated"] = len(pipeline.get_task_info("evaluation_0").get_output_metric())

# A deployed pipeline is kept in a file, and predicts another day.
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "pipeline.pkl")
    pipeline.dump_model(path)
    pipeline = FateFlowPipeline.load_model(path)
predicting = predict_with(pipeline)
results["predict"] = {"joined": rows(predicting, "psi_0"), "predictions": rows(predicting, "sbt_0")}
frame = predicting.get_task_info("sbt_0").get_output_data()["test_output_data"]
results["columns"] = sorted(frame.columns)

validating = FateFlowPipeline().set_parties(guest=guest, host=host)
psi = PSI("psi_0", input_data=[
    DataWarehouseChannel(namespace=namespace, name=guest_rows, parties=dict(guest=guest)),
    DataWarehouseChannel(namespace=namespace, name=host_rows, parties=dict(host=host))])
boost = HeteroSecureBoost("sbt_0", num_trees=1, max_depth=2, cv_param={"n_splits": 2},
                          cv_data=psi.outputs["output_data"])
validating.add_tasks([psi, boost])
validating.compile()
validating.fit()
results["cv"] = {"joined": rows(validating, "psi_0"), "predictions": rows(validating, "sbt_0")}

print("results:", json.dumps(results))
