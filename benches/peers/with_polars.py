"""The report to Parquet with Polars.

Responsible for: one lazy query from scan_csv into a streaming sink, on one thread.
Not responsible for: measuring (`measured`).
"""

import os

# Read when the library is loaded.
os.environ["POLARS_MAX_THREADS"] = "1"

import polars as pl

import measured

# Takes the first field that is too much, so that such rows can be left out.
SURPLUS = "surplus"
SCHEMA = {name: pl.String for name in measured.COLUMNS + [SURPLUS]}
SCHEMA |= {name: pl.Float64 for name in measured.NUMBERS}


def convert(report, unfinished):
    rows = pl.scan_csv(
        report,
        has_header=False,
        skip_rows=1,
        schema=SCHEMA,
        missing_columns="insert",
        null_values={name: measured.BAD_NUMBER for name in measured.NUMBERS},
    )
    instant = [
        pl.col(name).str.to_datetime(measured.INSTANT, time_unit="ms", time_zone="UTC", strict=False)
        for name in measured.INSTANTS
    ]
    rows = (
        rows.filter(pl.col(SURPLUS).is_null())
        .drop(SURPLUS)
        .with_columns(pl.col(measured.NUMBERS).fill_null(0.0))
        .filter(pl.all_horizontal(pl.col(measured.BOUNDED) <= measured.ABOVE))
        .with_columns(instant)
        .with_columns(pl.col(measured.DAY_OF).dt.date().alias(measured.DAY))
    )
    rows.sink_parquet(
        unfinished, compression="zstd", compression_level=1, row_group_size=measured.GROUP_ROWS
    )
    return pl.scan_parquet(unfinished).select(pl.len()).collect().item()


measured.run(convert)
