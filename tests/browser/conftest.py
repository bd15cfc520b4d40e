import sys
from pathlib import Path
import pytest
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

@pytest.fixture(scope='session')
def stage(tmp_path_factory):
    "A folder with trained runs and the notebook of all explorers"
    from stage import train, write
    home = tmp_path_factory.mktemp('stage')
    train(home); write(home)
    return home
