"What all tests share: a headless plot backend, the real images where there are any, a browser where there is one"
import os, shutil, sys
os.environ.setdefault('MPLBACKEND', 'Agg')
import robustfm # before anyone imports torchvision
import pytest
from pathlib import Path

root = Path(__file__).resolve().parent.parent

def real_data():
    "The folder of real images: ROBUSTFM_DATA, or ../shared/data beside this checkout, or None"
    for folder in (os.environ.get('ROBUSTFM_DATA'), root.parent/'shared'/'data'):
        if folder and Path(folder).is_dir(): return Path(folder).resolve()

def browser():
    "A Chromium that tests can drive, or None"
    return next(filter(None, map(shutil.which, ('chromium','chromium-browser','google-chrome'))), None)

def pytest_collection_modifyitems(items):
    for mark,there,reason in (('data', real_data, 'no real images: set ROBUSTFM_DATA to their folder'),
                              ('browser', browser, 'no Chromium: apt-get install chromium')):
        marked = [i for i in items if i.get_closest_marker(mark)]
        if marked and not there():
            for i in marked: i.add_marker(pytest.mark.skip(reason=reason))

@pytest.fixture(scope='session')
def data_folder():
    "The folder of real images"
    return real_data() or pytest.skip('no real images: set ROBUSTFM_DATA to their folder')

@pytest.fixture(scope='session')
def cifar10_root(data_folder):
    "A folder that holds the official `cifar-10-batches-py`, written once from the lossless copy if need be (178 MB in .data/)"
    if (data_folder/'cifar-10-batches-py').is_dir(): return data_folder
    if not (data_folder/'read_data.py').exists(): pytest.skip(f'no CIFAR-10 in {data_folder}')
    from filelock import FileLock # two workers of pytest must not write it twice
    made = root/'.data'
    made.mkdir(exist_ok=True)
    with FileLock(made/'lock'):
        if not (made/'complete').exists():
            sys.path.insert(0, str(data_folder))
            try: import read_data
            finally: sys.path.remove(str(data_folder))
            read_data.restore(made)
            (made/'complete').touch()
    return made

@pytest.fixture(scope='session')
def chromium(): return browser() or pytest.skip('no Chromium: apt-get install chromium')
