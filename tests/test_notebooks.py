"Every notebook runs from top to bottom: the rooms by nbdev's runner, the tutorials in a kernel, as their readers run them"
import pytest
from house import rooms, lessons, name, run_alone, execute

@pytest.mark.parametrize('path', rooms(), ids=name)
def test_room(path, tmp_path):
    passed,text = run_alone(path, tmp_path/'log')
    assert passed, text[-6000:]

@pytest.mark.slow
@pytest.mark.parametrize('path', lessons(), ids=name)
def test_tutorial(path): execute(path)
