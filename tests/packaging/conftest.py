import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from package import Package, built


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """The package."""
    return built(tmp_path_factory)
