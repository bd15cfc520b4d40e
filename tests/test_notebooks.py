"Every room runs from top to bottom, by nbdev's runner; the chapters of the course are in test_tutorials"
import pytest
from house import rooms, name, run_alone

@pytest.mark.parametrize('path', rooms(), ids=name)
def test_room(path, tmp_path):
    passed,text = run_alone(path, tmp_path/'log')
    assert passed, text[-6000:]
