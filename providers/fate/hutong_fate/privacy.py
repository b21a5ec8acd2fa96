"""Keeps rows out of logs. FATE's own messages can hold cells: of a table, or of a tensor that it prints."""

import csv
import re
from pathlib import Path
from typing import Iterable

HIDDEN = "…"
_LIMIT = 800
_TOKEN = re.compile(r"[^\s,'\"\[\](){}=:;<>`|]+")
_QUOTED = re.compile(r"'([^'\n]*)'|\"([^\"\n]*)\"|`([^`\n]*)`")
# Numbers as tensors and data frames print them, and lists of values.
_LIST = re.compile(r"[\[(][^\[\]()]*(?:[,\s][^\[\]()]*){4,}[\])]")
_DECIMAL = re.compile(r"(?<![\w.])[-+]?\d+\.\d{2,}(?:[eE][-+]?\d+)?")


def redact(message: str, tables: Iterable[Path], keep: Iterable[str] = ()) -> str:
    """Returns a message without the cells of CSV files, and shortened. keep has names that are no secrets."""
    keep = set(keep)
    quoted = {part for found in _QUOTED.findall(message) for part in found if part}
    tokens = {t for t in _TOKEN.findall(message) if len(t) > 2} | {t.strip(".!?") for t in quoted} | quoted
    found = _cells(tables, tokens - keep - {""})
    for cell in sorted(found, key=len, reverse=True):
        message = re.sub(r"(?<!\w)" + re.escape(cell) + r"(?!\w)", HIDDEN, message)
    message = _DECIMAL.sub(HIDDEN, message)
    message = _LIST.sub(lambda m: m[0] if not any(c.isdigit() for c in m[0]) else f"[{HIDDEN}]", message)
    message = " ".join(message.split())
    return message if len(message) <= _LIMIT else message[: _LIMIT - 1] + HIDDEN


def _cells(tables: Iterable[Path], wanted: set) -> set:
    """Returns which of the wanted texts are cells."""
    found: set = set()
    for path in tables:
        try:
            with open(path, encoding="utf-8", errors="replace", newline="") as f:
                rows = csv.reader(f)
                next(rows, None)
                for row in rows:
                    found.update(wanted.intersection(row))
        except (OSError, csv.Error):
            continue
    return found
