"""What is reckoned from rows: medians, paired ratios with intervals, shares. No files, no clock."""

import math
import random
import statistics

# Of the bootstrap: a report that is written twice is the same.
BOOTSTRAP_SEED, RESAMPLES = 20260701, 10_000


def good(rows):
    """The rows that count: not void (a void one was repeated once), the last attempt of each."""
    last = {}
    for r in rows:
        if not r["void"]:
            last[r["cell"], r["seed"], r["sender"]] = r
    return list(last.values())


def by(rows, cell, sender, what="goodput_mbit"):
    """Seed → value."""
    return {r["seed"]: r[what] for r in rows if r["cell"] == cell and r["sender"] == sender and r[what] is not None}


def ratios(rows, cell, sender, base):
    """One to the other, seed by seed; seeds that either of them lacks are left out."""
    a, b = by(rows, cell, sender), by(rows, cell, base)
    return [a[s] / b[s] for s in sorted(a.keys() & b.keys()) if b[s] > 0]


def interval(values, resamples=RESAMPLES, seed=BOOTSTRAP_SEED):
    """The 95 % percentile bootstrap interval of the median."""
    if not values:
        return None
    rng = random.Random(seed)
    n = len(values)
    medians = sorted(statistics.median(rng.choices(values, k=n)) for _ in range(resamples))
    return medians[int(0.025 * resamples)], medians[min(int(0.975 * resamples), resamples - 1)]


def ratio(rows, cell, sender, base):
    """Median of the paired ratios, its interval, how many pairs; None without any."""
    values = ratios(rows, cell, sender, base)
    if not values:
        return None
    low, high = interval(values)
    return {"median": statistics.median(values), "low": low, "high": high, "pairs": len(values)}


def median(values):
    values = list(values)
    return statistics.median(values) if values else None


def verdict(rows, cells, sender, base):
    """Against the goal: no cell's interval wholly below 1, and the median of the cells' medians at least 1."""
    each = {c: r for c in cells if (r := ratio(rows, c, sender, base))}
    behind = [c for c, r in each.items() if r["high"] < 1.0]
    over = median(r["median"] for r in each.values())
    return {"cells": each, "behind": behind, "median": over, "met": bool(each) and not behind and over >= 1.0}


def jain(shares):
    """Jain's index: 1 when all are equal, 1/n when one has everything."""
    squares = sum(s * s for s in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else None


def steady_mbit(series, begin, end):
    """The rate between two times, of [[seconds, bytes so far], …]."""
    def at(when):
        before, after = [p for p in series if p[0] <= when], [p for p in series if p[0] > when]
        if not before:
            return 0.0
        if not after:
            return float(before[-1][1])
        (t0, b0), (t1, b1) = before[-1], after[0]
        return b0 + (b1 - b0) * (when - t0) / (t1 - t0)
    return (at(end) - at(begin)) * 8e-6 / (end - begin)


def quantile(values, q):
    """The value that a share q of the samples does not exceed; None without samples."""
    values = sorted(values)
    return values[max(1, min(len(values), math.ceil(len(values) * q))) - 1] if values else None
