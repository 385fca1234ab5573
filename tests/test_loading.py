"""docs/exporting.md, followed as written: its SQL and Python on a Parquet folder, its load into a real PostgreSQL."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import chdir
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest

from pexip_history.archive import manifest
from pexip_history.archive.parquet_rows import TABLES
from pexip_history.export.parquet import make_missing
from tests.conftest import ROOT
from tests.management_node.calls import calls
from tests.test_parquet import write_dated

PAGE = (ROOT / "docs" / "exporting.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(sql|python)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
DDL = next(text for kind, text in BLOCKS if "CREATE TABLE loaded" in text)
LOADER = next(text for kind, text in BLOCKS if "psycopg" in text)
SERVERS = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for number in (1, 2, 3):
        write_dated(tmp_path, number, list(calls(seed=number, day=date(2026, 10, number), conferences=8)))
    manifest.note(tmp_path)
    make_missing(tmp_path)
    return tmp_path


def test_the_pages_sql_and_python_run_on_the_folder(data: Path) -> None:
    own = [(kind, text) for kind, text in BLOCKS if text not in (DDL, LOADER)]
    assert len(own) == 3
    with chdir(data), duckdb.connect() as db:
        for kind, text in own:
            if kind == "python":
                names: dict[str, object] = {}
                exec(text, names)
                frame, lazy = names["participants"], names["lazy"]
                assert len(frame) == lazy.collect().height > 0
            else:
                assert db.execute(text.replace("2026-10-*", "2026-11-*")).fetchall()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A PostgreSQL of the test's own, which psycopg connects to; as a user that is not root."""
    if not SERVERS:
        pytest.skip("PostgreSQL is not here (apt-get install postgresql)")
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as folder:
        who: dict[str, Any] = {}
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(folder, user.pw_uid, user.pw_gid)
            who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

        def run(program: str, *words: str) -> None:
            command = [SERVERS[-1].parent / program, "-D", f"{folder}/cluster", *words]
            subprocess.run(command, cwd=folder, env={"PATH": os.environ["PATH"]}, check=True, **who)

        run("initdb", "-A", "trust", "-U", "test", "-E", "UTF8", "--no-sync")
        run("pg_ctl", "-l", f"{folder}/log", "-w", "-o", f"-k {folder} -c listen_addresses='' -c fsync=off", "start")
        for name, value in {"PGHOST": folder, "PGUSER": "test", "PGDATABASE": "postgres"}.items():
            monkeypatch.setenv(name, value)
        yield
        run("pg_ctl", "-m", "immediate", "stop")


@pytest.mark.slow
@pytest.mark.usefixtures("server")
def test_a_nightly_load_into_postgresql_has_each_row_once_whatever_cuts_it(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(autocommit=True) as db, duckdb.connect() as duck:
        db.execute(DDL)

        def count(table: str) -> int:
            return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

        def there(table: str, where: str = "true") -> int:
            key = "(participant_id, id)" if table == "streams" else "id"
            query = f"SELECT count(DISTINCT {key}) FROM '{data}/parquet/{table}/*.parquet' WHERE {where}"
            return int(duck.execute(query).fetchone()[0])

        real, cut = psycopg.Cursor.copy, iter([False, False, True])

        def copy(self: psycopg.Cursor, *given: object, **more: object) -> object:
            if next(cut, False):
                raise KeyboardInterrupt
            return real(self, *given, **more)

        with chdir(data):
            monkeypatch.setattr(psycopg.Cursor, "copy", copy)
            with pytest.raises(KeyboardInterrupt):
                exec(LOADER, {})
            assert count("loaded") == 2
            for _ in range(2):
                exec(LOADER, {})
                assert count("loaded") == 9
                assert [*map(count, TABLES.values())] == [*map(there, TABLES.values())]
            name = "2026-11-01_00-05-00"
            path = data / f"{name}_pexHistoryPart.csv"
            of_one = f"FROM '{data}/parquet/participants/{name}.parquet' WHERE display_name ~ '[A-Za-z ]{{4,}}'"
            (person,) = duck.execute(f"SELECT display_name {of_one} LIMIT 1").fetchone()
            is_theirs = f"display_name = '{person}'"
            before = count(f"participants WHERE {is_theirs}")
            path.write_bytes(path.read_bytes().replace(f",{person},".encode(), b",,"))
            manifest.note_change(data, manifest.ERASED, [path.name])
            (data / "parquet" / "participants" / f"{name}.parquet").unlink()
            make_missing(data)
            exec(LOADER, {})
            assert count("loaded") == 10
            assert count("participants") == there("participants")
            assert count(f"participants WHERE {is_theirs}") == there("participants", is_theirs) < before
