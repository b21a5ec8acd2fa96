"""The configuration of a container (specification, part 3). Flattened with dots it is the container's environment."""
from typing import Dict, Optional

from pydantic import create_model

from .artifact import ArtifactAddress

Addresses = Optional[Dict[str, ArtifactAddress]]

RuntimeConf = create_model(
    "RuntimeConf", name=(str, ...), parameter=(Dict, {}), input=(Addresses, None), output=(Addresses, None))
RuntimeComponent = create_model("RuntimeComponent", component=(RuntimeConf, ...))
LogPath = create_model("LogPath", path=(str, ...))
Config = create_model(
    "Config", task_id=(str, ...), trace_id=(Optional[str], None), session_id=(str, ""), token=(str, ""),
    inst_id=(Dict, ...), node_id=(Dict, ...), log=(Optional[LogPath], None), self_role=(str, ...))
SystemConf = create_model("SystemConf", storage=(str, ...), transport=(str, ...), callback=(str, ...))
TaskRuntimeEnv = create_model(
    "TaskRuntimeEnv", runtime=(RuntimeComponent, ...), config=(Config, ...), system=(SystemConf, ...))
