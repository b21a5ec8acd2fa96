"""A BFIA job: the DAG and the config (specification, part 2, create_all)."""
from typing import Dict, List, Optional

from pydantic import create_model

ROLES = ("guest", "host", "arbiter")


def record(model, **fields):
    """Returns a model of required fields. A field given as (type, default) is optional."""
    return create_model(model, **{k: v if isinstance(v, tuple) else (v, ...) for k, v in fields.items()})


def by_role(model, each, **fields):
    """Returns a model with an optional field for each role."""
    return record(model, **fields, **{role: (Optional[each], None) for role in ROLES})


InitiatorSpec = record("InitiatorSpec", role=str, node_id=str)
RoleSpec = by_role("RoleSpec", List[str])
JobCommonSpec = record("JobCommonSpec", sync_type=(Optional[str], "poll"))
JobParamsSpec = by_role("JobParamsSpec", Dict, common=(Optional[JobCommonSpec], None))
TaskParamsSpec = by_role("TaskParamsSpec", Dict, common=(Optional[Dict], None))
ConfSpec = record(
    "ConfSpec", initiator=InitiatorSpec, role=RoleSpec, job_params=JobParamsSpec, task_params=TaskParamsSpec, version=str)

DataSpec = record("DataSpec", key=str, type=str)
DagComponentSpec = record(
    "DagComponentSpec", name=str, componentName=str, provider=str, version=str,
    input=(Optional[List[DataSpec]], []), output=(Optional[List[DataSpec]], []))
DagSpec = record("DagSpec", components=List[DagComponentSpec], version=str)

BFIADagSpec = record(
    "BFIADagSpec", config=ConfSpec, dag=DagSpec, flow_id=(Optional[str], None), old_job_id=(Optional[str], None))
DagSchemaSpec = record("DagSchemaSpec", dag=BFIADagSpec, schema_version=str, kind=(str, "bfia"))
