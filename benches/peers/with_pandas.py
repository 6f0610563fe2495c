"""The report to Parquet with pandas and pyarrow.

Responsible for: chunks from read_csv into one ParquetWriter, on one thread.
Not responsible for: measuring (`measured`).
"""

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

import measured

TYPES = {name: "str" for name in measured.INSTANTS + measured.TEXTS + [measured.LABELS]}
TYPES |= {name: "float64" for name in measured.NUMBERS}


def convert(report, unfinished):
    chunks = pd.read_csv(
        report,
        chunksize=measured.GROUP_ROWS,
        dtype=TYPES,
        keep_default_na=False,
        na_values={name: [measured.BAD_NUMBER] for name in measured.NUMBERS},
        on_bad_lines="skip",
    )
    writer, rows = None, 0
    for chunk in chunks:
        table = pa.Table.from_pandas(typed(chunk), preserve_index=False)
        if writer is None:
            writer = pq.ParquetWriter(
                unfinished, table.schema, compression="zstd", compression_level=1
            )
        writer.write_table(table, row_group_size=measured.GROUP_ROWS)
        rows += table.num_rows
    writer.close()
    return rows


def typed(chunk):
    numbers = chunk[measured.NUMBERS].fillna(0.0)
    keep = (numbers[measured.BOUNDED] <= measured.ABOVE).all(axis=1)
    chunk[measured.NUMBERS] = numbers
    chunk = chunk[keep]
    instants = {
        name: pd.to_datetime(chunk[name], format=measured.INSTANT, utc=True).dt.as_unit("ms")
        for name in measured.INSTANTS
    }
    instants[measured.DAY] = instants[measured.DAY_OF].dt.date
    return chunk.assign(**instants)


pa.set_cpu_count(1)
pa.set_io_thread_count(1)
measured.run(convert)
