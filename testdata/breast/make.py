"""Makes guest.csv and host.csv beside this file; see README.md. Needs scikit-learn."""

import csv
import pathlib
import random

from sklearn.datasets import load_breast_cancer

GUEST_FEATURES = 10  # the first ten (the means) are the guest's, the other twenty the host's
ONLY_ONE_SIDE = 30  # rows that each side has and the other has not
DECIMALS = 6

here = pathlib.Path(__file__).parent
data = load_breast_cancer()
x = (data.data - data.data.mean(axis=0)) / data.data.std(axis=0)
y = 1 - data.target  # scikit-learn's 0 is malignant; here 1 is, the event to be found
ids = [f"wdbc{n:06d}" for n in range(1, len(x) + 1)]

apart = random.Random(20).sample(range(len(x)), 2 * ONLY_ONE_SIDE)
guest_only, host_only = set(apart[:ONLY_ONE_SIDE]), set(apart[ONLY_ONE_SIDE:])


def write(name, header, rows, seed, row_of):
    rows = list(rows)
    random.Random(seed).shuffle(rows)
    with open(here / name, "w", newline="") as f:
        out = csv.writer(f, lineterminator="\n")
        out.writerow(header)
        out.writerows(row_of(r) for r in rows)


def numbers(values):
    return [f"{v:.{DECIMALS}f}" for v in values]


everyone = range(len(x))
write(
    "guest.csv",
    ["id", "y"] + [f"x{i}" for i in range(GUEST_FEATURES)],
    (r for r in everyone if r not in host_only),
    1,
    lambda r: [ids[r], y[r]] + numbers(x[r, :GUEST_FEATURES]),
)
write(
    "host.csv",
    ["id"] + [f"x{i}" for i in range(x.shape[1] - GUEST_FEATURES)],
    (r for r in everyone if r not in guest_only),
    2,
    lambda r: [ids[r]] + numbers(x[r, GUEST_FEATURES:]),
)
