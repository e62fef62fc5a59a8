"""Examples in docstrings give what they show."""

import doctest
import importlib
from pathlib import Path

import numpy as np
import pytest
import torch

import reparam

ROOT = Path(reparam.__file__).parent
WITH_EXAMPLES = sorted(".".join(path.relative_to(ROOT.parent).with_suffix("").parts) for path in ROOT.rglob("*.py")
                       if ">>> " in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_in_docstrings_run(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(importlib.import_module(module), extraglobs={"np": np, "torch": torch, "reparam": reparam})
    assert found.attempted and not found.failed
