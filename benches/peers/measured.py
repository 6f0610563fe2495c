"""Runs one conversion and says what it cost, as one line of JSON.

Responsible for: the clock, CPU time and peak memory of this process around the conversion, and
the same end as both other sides have: a durable file under its name.
Not responsible for: importing the library, which is over before the clock starts, and the
conversion.
"""

import json
import os
import sys
import time

# How the instants of the report look, in the words of C's strptime.
INSTANT = "%Y-%m-%d %H:%M:%S %z UTC"
# Stands where a number should be.
BAD_NUMBER = "n/a"
# Rows with a value above it are left out.
ABOVE = 1e18
# The column that this does not apply to.
UNBOUNDED = "node_capacity_cpu_cores"
# The day of this instant is added as a column.
DAY_OF = "interval_start"
DAY = "usage_date"
GROUP_ROWS = 65_536

INSTANTS = ["report_period_start", "report_period_end", "interval_start", "interval_end"]
TEXTS = ["pod", "namespace", "node", "resource_id"]
NUMBERS = [
    "pod_usage_cpu_core_seconds",
    "pod_request_cpu_core_seconds",
    "pod_limit_cpu_core_seconds",
    "pod_usage_memory_byte_seconds",
    "pod_request_memory_byte_seconds",
    "pod_limit_memory_byte_seconds",
    UNBOUNDED,
    "node_capacity_cpu_core_seconds",
    "node_capacity_memory_bytes",
    "node_capacity_memory_byte_seconds",
]
LABELS = "pod_labels"
COLUMNS = INSTANTS + TEXTS + NUMBERS + [LABELS]
BOUNDED = [name for name in NUMBERS if name != UNBOUNDED]


def run(convert):
    """Calls `convert(report, unfinished)`, which returns the rows it wrote."""
    report, target = sys.argv[1:]
    unfinished = target + ".unfinished"
    with open("/proc/self/clear_refs", "w", encoding="ascii") as peak:
        peak.write("5")
    wall, cpu = time.perf_counter(), time.process_time()
    rows = convert(report, unfinished)
    _sync(unfinished)
    os.rename(unfinished, target)
    _sync(os.path.dirname(target))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(json.dumps({"rows": rows, "wall": wall, "cpu": cpu, "peak": _peak()}))


def _sync(path):
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _peak():
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
