"""The storage that system.storage names: a folder, or a bucket of S3 (API_SPECS, part 3, section 4)."""

import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Optional
from urllib.parse import parse_qs, unquote, urlsplit

from .errors import TaskError, TemporaryError
from .task import Address

# Limits what corrupt metadata makes the program read.
MAX_PARTITIONS = 1 << 20
_RETENTION = 365 * 24 * 3600
_TRIES = 5


def open_storage(url: str):
    """Opens file:///folder, or s3://host:port?username=..&password=..&bucket=..; with secure=true over TLS."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        path = unquote(parts.netloc + parts.path)
        if not path.startswith("/"):
            raise TaskError("variable system.storage: file:// needs a folder, such as file:///storage")
        return FileStorage(Path(path))
    if parts.scheme == "s3" and parts.netloc:
        query = {k: v[-1] for k, v in parse_qs(parts.query, keep_blank_values=True).items()}
        return S3Storage(parts.netloc, query)
    # The value itself holds a password.
    raise TaskError("variable system.storage: must be file:///folder or s3://host:port?username=..&password=..")


class FileStorage:
    """Objects as files below a folder."""

    def __init__(self, root: Path):
        self._root = root

    def fetch(self, key: str, target: Path) -> None:
        shutil.copyfile(self._root / key, target)

    def store(self, source: Path, key: str) -> None:
        target = self._root / key
        target.parent.mkdir(parents=True, exist_ok=True)
        # A reader sees all of an object or nothing. The platform's user must be able to read it.
        fd, temporary = tempfile.mkstemp(prefix="." + target.name + "-", dir=target.parent)
        try:
            with os.fdopen(fd, "wb") as out, open(source, "rb") as data:
                shutil.copyfileobj(data, out, 1 << 20)
                os.fchmod(out.fileno(), 0o644)
                out.flush()
                os.fsync(out.fileno())
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise


class S3Storage:
    """Objects of a bucket. It asks for nothing but objects, since a party may grant no more."""

    def __init__(self, endpoint: str, query: dict):
        import urllib3
        from minio import Minio

        pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=10, read=300), retries=False, cert_reqs="CERT_REQUIRED"
        )
        self._bucket = query.get("bucket") or "storage"
        self._client = Minio(
            endpoint,
            access_key=query.get("username"),
            secret_key=query.get("password"),
            secure=query.get("secure") == "true",
            region=query.get("region") or "us-east-1",
            http_client=pool,
        )

    def fetch(self, key: str, target: Path) -> None:
        self._retry(lambda: self._client.fget_object(self._bucket, key, str(target)))

    def store(self, source: Path, key: str) -> None:
        try:
            self._retry(lambda: self._client.fput_object(self._bucket, key, str(source)))
        except FileNotFoundError:  # the bucket: nobody has created it at a party without data of its own
            self._client.make_bucket(self._bucket)
            self._retry(lambda: self._client.fput_object(self._bucket, key, str(source)))

    @staticmethod
    def _retry(call):
        from minio.error import InvalidResponseError, S3Error, ServerError
        from urllib3.exceptions import HTTPError

        for attempt in range(1, _TRIES + 1):
            try:
                return call()
            except S3Error as err:
                if err.code in ("NoSuchKey", "NoSuchBucket"):
                    raise FileNotFoundError(err.code) from None
                if err.code not in ("InternalError", "SlowDown", "ServiceUnavailable", "RequestTimeout"):
                    raise TaskError(f"the storage refused: {err.code}") from None
                reason = err.code
            except (ServerError, InvalidResponseError, HTTPError, OSError) as err:
                reason = type(err).__name__
            if attempt < _TRIES:
                time.sleep(0.5 * 2**attempt)
        raise TemporaryError(f"the storage does not answer: {reason}")


def key_of(address: Address, part: str) -> str:
    return f"{address.namespace}/{address.name}/{part}"


def fetch_object(storage, address: Address, folder: Path) -> dict:
    """Fetches metadata and all partitions into a folder, and returns the metadata."""
    folder.mkdir(parents=True)
    place = f"{address.namespace}#{address.name}"
    try:
        storage.fetch(key_of(address, "metadata"), folder / "metadata")
    except FileNotFoundError:
        raise TaskError(f"{place}: has no metadata; was it uploaded, or did the previous task write it?") from None
    except OSError as err:
        raise TaskError(f"{place}: failed to read metadata: {err.strerror}") from None
    try:
        metadata = json.loads((folder / "metadata").read_bytes())
        partitions = int(metadata.get("partitions") or 1)
    except (ValueError, TypeError, AttributeError):
        raise TaskError(f"{place}: its metadata is not the JSON of a dataset") from None
    if not 0 < partitions <= MAX_PARTITIONS:
        raise TaskError(f"{place}: its metadata declares {partitions} partitions")
    for n in range(partitions):
        try:
            storage.fetch(key_of(address, f"data_{n}"), folder / f"data_{n}")
        except OSError as err:
            what = err.strerror or "it does not exist"
            raise TaskError(f"{place}: failed to read partition {n} of {partitions}: {what}") from None
    metadata["partitions"] = partitions
    return metadata


def store_object(storage, address: Address, data: Path, *, data_type: str, file_type: str, count: int,
                 description: str, columns: Optional[list] = None, extra: Optional[dict] = None) -> None:
    """Stores an object, its metadata last: who finds the metadata finds all of it."""
    now = time.time()
    metadata = {
        "column_info": columns or [],
        "options": "",
        "partitions": 1,
        "description": description,
        "data_type": data_type,
        "file_type": file_type,
        "create_time": now,
        "expire_time": now + _RETENTION,
        "count": count,
        "metadata": extra or {},
    }
    document = data.with_name(data.name + ".metadata")
    document.write_text(json.dumps(metadata), encoding="utf-8")
    for source, part in ((data, "data_0"), (document, "metadata")):
        try:
            storage.store(source, key_of(address, part))
        except OSError as err:
            raise TaskError(
                f"{address.namespace}#{address.name}: failed to write {part}: {err.strerror or err}"
            ) from None
