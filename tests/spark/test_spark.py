"""The SQL answers of docs/analysing.md in Spark over the Parquet folder, beside DuckDB's over the aggregates.

Not a part of `make test`: PySpark is large, has a virtual environment of its own, and needs Java 17.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import duckdb
import pytest

from pexip_history.export.parquet import make_missing
from pexip_history.folder.cells import guard
from tests.conftest import ROOT
from tests.test_analysing import ANSWERS, READING, ROUNDING, SECTIONS, collect_days, rows

PYTHON = Path(os.environ.get("SPARK_PYTHON", ROOT / ".venv-spark" / "bin" / "python"))
pytestmark = [
    pytest.mark.skipif(not PYTHON.exists(), reason=f"PySpark is not here ({PYTHON}); make test-spark sets it up"),
    pytest.mark.skipif(
        shutil.which("java") is None, reason="Java is not here (apt-get install openjdk-17-jre-headless)"
    ),
]
QUERIES = {title: SECTIONS[title]["sql"] for title in ANSWERS}
PARQUET = """
import json, sys
from pyspark.sql import SparkSession
spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
spark.conf.set("spark.sql.session.timeZone", "UTC")
queries = json.load(sys.stdin)
for table in ("conferences", "participants", "streams"):
    read = spark.read.option("mergeSchema", True).parquet(f"parquet/{table}")
    read.selectExpr(
        "*",
        "from_utc_timestamp(start_time, 'Europe/Oslo') AS start_local",
        "from_utc_timestamp(end_time, 'Europe/Oslo') AS end_local",
    ).createOrReplaceTempView(table)
plain = lambda value: str(value) if hasattr(value, "year") else value
query = lambda text: [list(map(plain, row)) for row in spark.sql(text).collect()]
found = {title: query(sql.rstrip().rstrip(";")) for title, sql in queries.items()}
names = query("SELECT id, display_name, conference_name FROM participants ORDER BY id")
nested = query("SELECT p.id, s.rx_packet_loss FROM participants AS p LATERAL VIEW explode(media_streams) AS s")
print(json.dumps([found, names, len(nested)], default=float))
"""


def test_spark_over_the_parquet_folder_gives_the_answers_that_sql_gives_over_the_csv(tmp_path: Path) -> None:
    _, participants = collect_days(tmp_path)
    make_missing(tmp_path)
    how = {"cwd": tmp_path, "capture_output": True, "encoding": "utf-8", "timeout": 900}
    done = subprocess.run([PYTHON, "-c", PARQUET], input=json.dumps(QUERIES), **how)
    assert done.returncode == 0, done.stderr[-3000:]
    found, names, nested = json.loads(done.stdout.splitlines()[-1])
    with duckdb.connect() as sql:
        for view in READING["sql"].split(";"):
            sql.execute(view.replace("'pexHistory", f"'{tmp_path}/pexHistory"))
        for title, query in QUERIES.items():
            wanted = [[str(v) if hasattr(v, "year") else v for v in row] for row in sql.execute(query).fetchall()]
            # Parquet has no formula guard, and null where a cell is empty.
            given = [[guard(cell) if isinstance(cell, str) else cell for cell in row] for row in found[title]]
            assert rows(given) == [pytest.approx(row, abs=ROUNDING) for row in rows(wanted)], title
        people = sorted(participants, key=lambda one: one["id"])
        assert names == [[one["id"], one["display_name"] or None, one["conference_name"] or None] for one in people]
        assert nested == sql.execute("SELECT count(*) FROM streams").fetchone()[0]
