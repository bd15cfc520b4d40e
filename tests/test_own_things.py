"What a reader adds in a line or a few is seen everywhere: a data set, an explorer, marks of a figure (a method of one's own: test_own_method.py)"
import json, numpy as np, pytest, torch
from typer.testing import CliRunner
from robustfm import cli
from robustfm.data import Images
from robustfm.datasets import dataset,datasets,load_data
from robustfm.marks import Figure,Line,Panel,as_plotly,described,static
from robustfm.recipes import run_recipe
from robustfm.runs import open_run
from robustfm.widgets import explore

@pytest.fixture
def own():
    "A data set in one line"
    dataset('noise', 'train','test')(lambda size=8: Images(torch.randint(0, 256, (96,1,size,size), dtype=torch.uint8), torch.arange(96)%3, ['a','b','c']).split(.7))
    yield 'noise'
    del datasets['noise']

def test_a_data_set_is_asked_for_by_name(own):
    assert len(load_data(own)['train'])+len(load_data(own)['test'])==96 and load_data(own, size=12)['test'].x.shape[-1]==12
    with pytest.raises(ValueError, match="'noise'"): load_data('nothing')

def test_the_shell_and_recipes_know_it(own, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    r = CliRunner().invoke(cli.app, ['pretrain','--run','r','--data',own,'--epochs','1','--network','tiny','--bs','16'])
    assert r.exit_code==0, r.output
    assert open_run('r').finished and json.loads((tmp_path/'r'/'data.json').read_text())['data']==own
    rows = run_recipe('simclr', own, tmp_path/'t', seeds=(0,), network='tiny', epochs=1, bs=16, opt='adam', lr=1e-3, show=False, attacks=('clean','pgd2'))
    assert rows[0]['seed']==0 and any(0<=v<=100 for k,v in rows[0].items() if 'clean' in k or k.startswith('SA'))

class Histogram:
    "How often: a mark of one's own, with both back ends"
    def __init__(self, x, bins=10): self.n,self.at = np.histogram(x, bins)
    def plotly(self, page): page.trace(self, type='bar', x=(self.at[1:]+self.at[:-1])/2, y=self.n)
    def matplotlib(self, ax, pen): ax.stairs(self.n, self.at, fill=True)

class Contour:
    "Lines of equal height"
    def __init__(self, z): self.z = np.asarray(z)
    def plotly(self, page): page.trace(self, type='contour', z=self.z, showscale=False)
    def matplotlib(self, ax, pen): ax.contour(self.z)

x = np.random.default_rng(0).normal(size=200)
hill = np.exp(-((np.indices((20,20))-10)**2).sum(0)/30)
marks = dict(histogram=lambda k=1.: Histogram(k*x), contour=lambda k=1.: Contour(k*hill), both_beside_ours=lambda k=1.: Line([0,1], [0,k], 'ours'))
types = dict(histogram='bar', contour='contour', both_beside_ours='scatter')

@pytest.mark.parametrize('kind', marks)
def test_a_mark_is_drawn_by_both_back_ends(kind):
    f = Figure([[Panel([marks[kind]()]),Panel([Line([0,1], [1,0])])]], 'one of mine')
    assert types[kind] in [t['type'] for t in as_plotly(f)['data']]
    empty = Figure([[Panel([]),Panel([Line([0,1], [1,0])])]], 'one of mine')
    assert static(f)[:4]==b'\x89PNG' and static(f)!=static(empty) and 'one of mine' in described(f)

@pytest.mark.parametrize('kind', marks)
def test_an_explorer_of_it_is_one_line(kind, tmp_path):
    e = explore(lambda k: Figure([[Panel([marks[kind](k)])]], f'{k:g} times'), k=(1.,3.))
    e.set(k=2.)
    assert '2 times' in described(e.figure) and e.static()[:4]==b'\x89PNG'
    e.to_html(tmp_path/'page.html')
    assert types[kind] in (tmp_path/'page.html').read_text(encoding='utf-8')
    e.close()
