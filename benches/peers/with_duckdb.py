"""The report to Parquet with DuckDB.

Responsible for: one COPY from read_csv to a Parquet file, on one thread.
Not responsible for: measuring (`measured`).
"""

import duckdb

import measured

TYPES = {name: "VARCHAR" for name in measured.COLUMNS} | {name: "DOUBLE" for name in measured.NUMBERS}


def convert(report, unfinished):
    columns = ", ".join(f"'{name}': '{kind}'" for name, kind in TYPES.items())
    # Every instant of the report is in UTC, and without the zone no extension is needed.
    instant = measured.INSTANT.replace("%z", "+0000")
    selected = [column(name, instant) for name in measured.COLUMNS]
    selected.append(f"CAST(strptime({measured.DAY_OF}, '{instant}') AS DATE) AS {measured.DAY}")
    bounded = " AND ".join(f"coalesce({name}, 0) <= {measured.ABOVE}" for name in measured.BOUNDED)
    database = duckdb.connect()
    database.execute("SET threads = 1")
    database.execute("SET preserve_insertion_order = true")
    database.execute(
        f"""
        COPY (
            SELECT {", ".join(selected)}
            FROM read_csv($report, header = true, columns = {{{columns}}},
                          nullstr = '{measured.BAD_NUMBER}', ignore_errors = true)
            WHERE {bounded}
        ) TO '{unfinished}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1,
                             ROW_GROUP_SIZE {measured.GROUP_ROWS})
        """,
        {"report": report},
    )
    return database.execute("SELECT count(*) FROM read_parquet($1)", [unfinished]).fetchone()[0]


def column(name, instant):
    if name in measured.INSTANTS:
        return f"CAST(strptime({name}, '{instant}') AS TIMESTAMP_MS) AS {name}"
    if name in measured.NUMBERS:
        return f"coalesce({name}, 0) AS {name}"
    return name


measured.run(convert)
