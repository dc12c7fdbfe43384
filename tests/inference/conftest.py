from pathlib import Path

import pytest
from saved_models import save


@pytest.fixture
def folder(tmp_path) -> Path:
    save(tmp_path / "model")
    return tmp_path / "model"
