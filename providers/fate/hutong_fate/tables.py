"""Turns datasets in CSV into FATE's dataframes, and back.

A dataset has a column of ids, by which PSI matches rows (FATE's match id). FATE's sample id names one row, and is
the same at all parties once PSI has matched the rows. It is the id, unless ids repeat. Then it is the column "sid",
as an upload with extend_sid adds it, and outputs keep it.
"""

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Optional

from .errors import TaskError

SID = "sid"
FOLD = "fold"
# All parties cut their tables alike: the order of sums, and so the last digits of results, depends on it.
PARTITIONS = 4
# The name under which metadata holds what CSV can't: which column is what, and of which type.
EXTRA = "fate"


@dataclass
class Layout:
    """The columns of a dataset by their purpose."""

    id: str
    sid: Optional[str] = None
    sid_matched: bool = False  # by FATE's PSI: the same at all parties
    label: Optional[str] = None
    label_type: str = "int32"
    weight: Optional[str] = None
    dtypes: Dict[str, str] = field(default_factory=dict)  # of the features


def layout(header: List[str], metadata: dict, columns: Dict[str, str]) -> Layout:
    """Finds the columns: by parameter, by the metadata of the dataset, by the usual names id and y."""
    upload = metadata.get("metadata") or {}
    kept = upload.get(EXTRA) if isinstance(upload.get(EXTRA), dict) else {}
    types = {c.get("name"): c.get("type") for c in metadata.get("column_info") or []}

    def find(name: str, usual: str, described) -> Optional[str]:
        if name in columns:
            if columns[name] in header:
                return columns[name]
            # A host has no label, and all parties get the same parameters.
            if name == "id":
                raise TaskError(f"parameter id: the dataset has no column {columns[name]!r}; {_list(header)}")
            return None
        for candidate in (described, usual):
            if candidate and candidate in header:
                return candidate
        return None

    ident = find("id", "id", kept.get("id") or upload.get("match_id_name"))
    if ident is None:
        raise TaskError(f"parameter id: names the column of ids, since the dataset has no column 'id'; {_list(header)}")
    label = find("label", "y", kept.get("label") or upload.get("label_name"))
    weight = find("weight", "", kept.get("weight") or upload.get("weight_name"))
    sid = SID if SID in header and SID != ident else None
    result = Layout(id=ident, sid=sid, sid_matched=bool(kept), label=label, weight=weight)
    if label:
        known = (kept.get("dtypes") or {}).get(label)
        result.label_type = known or ("int32" if types.get(label, "int64") == "int64" else "float32")
    for name in header:
        if name in (ident, sid, label, weight):
            continue
        known = (kept.get("dtypes") or {}).get(name)
        result.dtypes[name] = known or ("object" if types.get(name) == "string" else "float32")
    return result


def _list(header: List[str]) -> str:
    shown = ", ".join(header[:12])
    return f"it has {shown}" + (", …" if len(header) > 12 else "")


def read_csv(folder: Path, partitions: int):
    """Returns the header and the rows of all partitions, as text."""
    header: Optional[List[str]] = None
    rows: List[List[str]] = []
    csv.field_size_limit(1 << 26)
    for n in range(partitions):
        with open(folder / f"data_{n}", encoding="utf-8-sig", newline="") as f:
            reader = csv.reader(f)
            first = next(reader, None)
            if first is None:
                raise TaskError(f"partition {n} of {partitions} has no header line")
            first = [name.strip() for name in first]
            if header is None:
                header = first
                if len(set(header)) != len(header) or "" in header:
                    raise TaskError("a column has no name, or the name of another one")
            elif first != header:
                raise TaskError(f"partition {n} of {partitions} begins with another header than partition 0")
            for line, row in enumerate(reader, 2):
                if len(row) != len(header):
                    if not row:
                        continue
                    raise TaskError(f"partition {n}, line {line}: has {len(row)} fields, the header {len(header)}")
                rows.append(row)
    return header, rows


def frame_of(header: List[str], rows: List[List[str]], columns: Layout):
    """Returns a pandas frame with the types of the layout. Errors name the column, never a cell."""
    import pandas as pd

    frame = pd.DataFrame(rows, columns=header, dtype=object)
    for name in (columns.sid, columns.id):
        if name:
            frame[name] = frame[name].str.strip()
    # Without PSI of FATE's, each party has numbered its rows itself, so that sid would match nothing.
    if not columns.sid_matched and not frame[columns.id].duplicated().any():
        frame[SID] = frame[columns.id]
    elif columns.sid is None:
        frame[SID] = frame[columns.id]
    if frame[SID].duplicated().any():
        raise TaskError(
            f"column {columns.sid or columns.id!r}: ids repeat; upload the dataset with extend_sid, which numbers the rows"
        )
    typed = dict(columns.dtypes)
    if columns.label:
        typed[columns.label] = columns.label_type
    if columns.weight:
        typed[columns.weight] = "float32"
    for name, dtype in typed.items():
        if dtype == "object":
            continue
        numbers = pd.to_numeric(frame[name].str.strip().replace("", None), errors="coerce")
        bad = numbers.isna() & ~frame[name].str.strip().str.lower().isin(("", "nan"))
        if bad.any():
            row = int(bad.to_numpy().argmax()) + 1
            raise TaskError(f"column {name!r}, row {row}: is not a number")
        if dtype.startswith("int"):
            if numbers.isna().any() or (numbers % 1 != 0).any():
                raise TaskError(f"column {name!r}: must be whole numbers without gaps")
        frame[name] = numbers.astype(dtype)
    return frame


def dataframe_of(ctx, frame, columns: Layout):
    """Returns FATE's dataframe of a pandas frame."""
    from fate.arch.dataframe import PandasReader

    order = [SID, columns.id, columns.label, columns.weight, *columns.dtypes]
    return PandasReader(
        sample_id_name=SID,
        match_id_name=columns.id,
        label_name=columns.label,
        label_type=columns.label_type,
        weight_name=columns.weight,
        dtype=columns.dtypes or "float32",
        partition=PARTITIONS,
    ).to_frame(ctx, frame[[name for name in order if name]].astype(object))


def write_csv(dataframes: list, path: Path, multiple: bool) -> dict:
    """Writes dataframes of the same columns to a CSV file, and returns what metadata holds of it.

    Several dataframes, as of a cross validation, are told apart by a column FOLD.
    """
    import pandas as pd

    frames = []
    for number, df in enumerate(dataframes):
        frame = df.as_pd_df()
        if multiple:
            frame.insert(0, FOLD, number)
        frames.append(frame)
    frame = pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]
    schema = dataframes[0].schema
    sid, ident = schema.sample_id_name, schema.match_id_name or schema.sample_id_name
    label, weight = schema.label_name, schema.weight_name
    if ident != sid and not multiple and (frame[sid].astype(str) == frame[ident].astype(str)).all():
        frame = frame.drop(columns=sid)
    elif ident != sid:
        frame = frame.rename(columns={sid: SID})
    # FATE's pipeline takes the last two columns of predictions for predict_detail and type.
    first = [c for c in (SID if SID in frame.columns else None, ident, label, weight, FOLD if multiple else None) if c]
    frame = frame[first + [c for c in frame.columns if c not in first]]
    dtypes = {c: str(t) for c, t in frame.dtypes.items() if c not in (SID, ident)}
    _write_rows(frame, path)
    return {
        "count": len(frame),
        "columns": [{"name": c, "type": _column_type(dtypes.get(c, "object"))} for c in frame.columns],
        "extra": {
            "match_id_name": ident,
            **({"label_name": label} if label else {}),
            EXTRA: {"id": ident, "label": label, "weight": weight, "dtypes": dtypes},
        },
    }


def _write_rows(frame, path: Path) -> None:
    """Writes a frame as CSV.

    FATE puts some cells, such as predict_detail, in quotes of its own. They become the quotes of CSV, also where
    CSV needs none, since FATE's pipeline removes the first and the last character of such cells.
    """
    quoted = [c for c in frame.columns if frame[c].dtype == object and len(frame) and frame[c].map(_has_quotes).all()]
    if not quoted:
        frame.to_csv(path, index=False, lineterminator="\n")
        return
    cells = []
    for name in frame.columns:
        if name in quoted:
            cells.append(['"' + text[1:-1].replace('"', '""') + '"' for text in frame[name]])
        else:
            cells.append(frame[[name]].to_csv(index=False, header=False, lineterminator="\0").split("\0")[:-1])
    with open(path, "w", encoding="utf-8", newline="") as out:
        frame[:0].to_csv(out, index=False, lineterminator="\n")
        out.writelines(",".join(row) + "\n" for row in zip(*cells))


def _has_quotes(cell) -> bool:
    return isinstance(cell, str) and len(cell) > 1 and cell[0] == cell[-1] == '"'


def _column_type(dtype: str) -> str:
    if dtype.startswith(("int", "uint", "bool")):
        return "int64"
    return "float64" if dtype.startswith("float") else "string"
