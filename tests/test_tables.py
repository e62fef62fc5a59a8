"""Tables of named columns: what is written is read back, by this package and by others, and no package that is missing is
asked for too late."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from reparam.errors import DataError, ReparamError, UsageError
from reparam.files.tables import read_cells, table_path, write_table
from reparam.metrics.factors import read_table

COLUMNS = {
    "name": ["a/=1+1.png", "-2.png", "café\udce9.png"], "=cmd": ["@x", "", None], "odd": np.array([True, False, True]),
    "n": [1, 2, None], "p": np.array([0.1, np.nan, 1e-12]), "code": np.arange(6, dtype=np.float32).reshape(3, 2) / 3,
    "thumbnail": [b"\x89PNG", None, b""]}


def test_a_csv_has_every_number_and_no_formula(tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", COLUMNS)
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as f:
        heads, *rows = csv.reader(f)
    assert heads == ["name", "'=cmd", "odd", "n", "p", "code0", "code1"]  # bytes are no text
    assert [row[0] for row in rows] == ["a/=1+1.png", "'-2.png", "café\\xe9.png"]
    assert [row[1:5] for row in rows] == [["'@x", "1", "1", "0.1"], ["", "0", "2", "nan"], ["", "1", "", "1e-12"]]
    assert (np.array([row[5:] for row in rows], np.float32) == COLUMNS["code"]).all()  # every digit that float32 has
    assert read_cells(tmp_path / "t.csv") == [heads, *rows]


def test_a_parquet_has_columns_as_they_are(tmp_path: Path) -> None:
    write_table(tmp_path / "t.PARQUET", COLUMNS)
    table = parquet.read_table(tmp_path / "t.PARQUET")
    assert table.column_names == list(COLUMNS)
    assert table["name"].to_pylist() == ["a/=1+1.png", "-2.png", "café\\xe9.png"]  # text that is no UTF-8 is no text there
    assert table["odd"].to_pylist() == [True, False, True] and table["n"].to_pylist() == [1, 2, None]
    assert table["thumbnail"].to_pylist() == COLUMNS["thumbnail"] and table.schema.field("thumbnail").type == arrow.binary()
    assert table.schema.field("code").type == arrow.list_(arrow.float32())
    assert (np.stack(table["code"].to_pylist()).astype(np.float32) == COLUMNS["code"]).all()


def test_a_table_of_attributes_in_either_form_says_the_same(tmp_path: Path) -> None:
    attributes = {"file": ["1.png", "2.png"], "colour": ["red", None], "size": [1.5, 2.0], "count": [3, 4],
                  "smiling": [True, False]}
    for name in ("t.csv", "t.parquet"):
        write_table(tmp_path / name, attributes)
        table = read_table(tmp_path / name)
        assert table.names == ("colour", "size", "count", "smiling")
        assert table.rows == {"1.png": ("red", "1.5", "3", "1"), "2.png": ("", "2", "4", "0")}
    dictionary = arrow.table({"file": ["1.png"], "kind": arrow.array(["a"]).dictionary_encode(), "picture": [b"\0"]})
    parquet.write_table(dictionary, tmp_path / "d.parquet")  # as pandas writes categories
    assert read_cells(tmp_path / "d.parquet") == [["file", "kind"], ["1.png", "a"]]


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_what_stood_there_stays_when_writing_fails(tmp_path: Path, name: str) -> None:
    write_table(tmp_path / name, {"a": [1]})
    before = (tmp_path / name).read_bytes()
    with pytest.raises(Exception, match=r"(?i)length|shorter"):
        write_table(tmp_path / name, {"a": [1, 2], "b": [1]})
    assert (tmp_path / name).read_bytes() == before and len(list(tmp_path.iterdir())) == 1
    (tmp_path / "file").touch()
    with pytest.raises(ReparamError, match="cannot write"):
        write_table(tmp_path / "file" / name, {"a": [1]})


def test_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"--table-out must be a \.csv or a \.parquet; got 't.xlsx'"):
        table_path("t.xlsx")
    (tmp_path / "bad.parquet").write_text("no table")
    for name in ("bad.parquet", "none.parquet", "none.csv"):
        with pytest.raises(DataError, match=f"{name} cannot be read"):
            read_cells(tmp_path / name)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for act in (lambda: table_path("t.parquet"), lambda: read_cells("t.parquet"), lambda: write_table("t.parquet", {})):
        with pytest.raises(UsageError, match=r'pip install "reparam\[parquet\]"'):
            act()
