"""The worked example of docs/extending.md, as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
CODE = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S).group(1)


def test_the_prior_from_outside_trains_saves_and_samples(tmp_path):
    (tmp_path / "heavy.py").write_text(CODE, encoding="utf-8")
    done = subprocess.run([sys.executable, "heavy.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    degrees = float(re.search(r"degrees of freedom: ([\d.]+)", done.stdout).group(1))
    assert degrees > 0
    assert abs(degrees - 3) > 0.01  # it was learned
    assert "sampled (16, 8, 8)" in done.stdout
    elsewhere = subprocess.run([sys.executable, "-m", "reparam", "sample", "runs/heavy"], cwd=tmp_path,
                               capture_output=True, text=True, check=False)
    assert elsewhere.returncode == 1
    assert "'heavy'" in elsewhere.stderr
    assert "Traceback" not in elsewhere.stderr


def test_its_density_is_the_one_it_names(monkeypatch):
    from reparam.models.space import Space
    from reparam.parts.registry import ROLES

    monkeypatch.setitem(sys.modules, "heavy", types.ModuleType("heavy"))
    try:
        exec(compile(CODE, "heavy.py", "exec"), sys.modules["heavy"].__dict__)  # the page's own code
        p = ROLES["prior"].make("heavy(4.0)", Space((2, 3)))()
    finally:
        ROLES["prior"].registered.pop("heavy", None)
    z = torch.randn(5, 2, 3)
    expected = torch.distributions.StudentT(4.0).log_prob(z).sum((-2, -1))
    torch.testing.assert_close(p.log_prob(z), expected)
    assert p.sample((7,)).shape == (7, 2, 3)
    with pytest.raises(KeyError):
        ROLES["prior"].parts["heavy"]
