"""What a machine cannot test is said at the end of the tests; where everything is to be tested, it fails them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import EVERYTHING


@pytest.mark.parametrize("everything", [False, True])
def test_what_a_missing_program_leaves_out_is_said_and_fails_where_nothing_may_be(tmp_path, everything):
    (tmp_path / "test_page.py").write_text("def test_page(browser):\n    pass\n\n\ndef test_other():\n    pass\n")
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")} | {EVERYTHING: "1"}
    if not everything:
        del own[EVERYTHING]
    ran = subprocess.run([sys.executable, "-m", "pytest", "-p", "conftest", "-p", "no:cacheprovider", tmp_path], text=True,
                         env=own | {"PATH": "", "PYTHONPATH": str(Path(__file__).parent)}, capture_output=True, check=False)
    assert ran.returncode == everything
    assert "1 passed, 1 skipped" in ran.stdout
    assert "not tested" in ran.stdout and "1: chromium is not installed. On Debian: apt-get install chromium" in ran.stdout
