import sys
from pathlib import Path
import pytest
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

@pytest.fixture(scope='session')
def stage(tmp_path_factory, worker_id):
    "A folder with trained runs and the notebooks of all explorers, made once for all workers"
    from filelock import FileLock
    from stage import train, write
    shared = tmp_path_factory.getbasetemp()
    home = (shared if worker_id=='master' else shared.parent)/'stage'
    with FileLock(f'{home}.lock'):
        if not (home/'nine.ipynb').exists(): home.mkdir(exist_ok=True); train(home); write(home)
    return home
