"""The location of data."""
from typing import Dict

from pydantic import create_model

ArtifactAddress = create_model("ArtifactAddress", name=(str, ...), namespace=(str, ...))
S3Address = create_model("S3Address", url=(str, ...))
Engine = create_model("Engine", name=(str, "s3"), address=(S3Address, ...))
Artifact = create_model(
    "Artifact", input=(Dict[str, ArtifactAddress], ...), output=(Dict[str, ArtifactAddress], ...))
