"""Gives unit tests a scratch directory to run in, as trial does: `TestCase.mktemp` makes its folders in the working directory."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def scratch_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for the whole run; pytest keeps those of the last runs only."""
    return tmp_path_factory.mktemp("unit")


@pytest.fixture(autouse=True)
def in_scratch_directory(scratch_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in the scratch directory, so that the checkout stays as it is."""
    monkeypatch.chdir(scratch_directory)
