"What CONTRIBUTING.md tells a contributor to write runs as it stands"
import json, re
import pytest
from house import root
from robustfm.datasets import datasets
from robustfm.objective import methods

text = (root/'CONTRIBUTING.md').read_text(encoding='utf-8')

@pytest.fixture
def clean():
    "What the page registers is taken back"
    was = dict(methods),dict(datasets)
    yield
    for registry,old in zip((methods,datasets), was):
        for k in set(registry)-set(old): del registry[k]

def test_its_code_runs(clean):
    here = {}
    for code in re.findall(r'```python\n(.*?)```', text, re.S): exec(code, here)
    from robustfm.attacks import PGD,Linf
    from robustfm.data import Batches
    from robustfm.datasets import digits
    from robustfm.models import Encoder,tiny
    from robustfm.train import steps
    o = here['Align'](Encoder(tiny(width=4)), lambda x: x, PGD(Linf(.1), steps=1))
    assert len([s for s in steps(o, Batches(digits()[0][:64], bs=32), 'adam', 1, lr=lambda e: 1e-3)])==2
    assert here['temperature'](.5).rows and len(here['load_data']('stripes'))==2

def test_files_and_commands_that_it_names_exist():
    for name in re.findall(r'`(tests/[\w./]+?\.py)', text): assert (root/name).exists(), name
    targets = re.findall(r'^(\w[\w-]*):', (root/'Makefile').read_text(), re.M)
    for t in re.findall(r'^make (\w[\w-]*)', text, re.M): assert t in targets, t

def test_the_citation_and_the_changes_name_the_version():
    version = re.search(r'^version = (\S+)', (root/'settings.ini').read_text(), re.M)[1]
    assert f'version: {version}' in (root/'CITATION.cff').read_text() and f'## {version}' in (root/'CHANGELOG.md').read_text()
