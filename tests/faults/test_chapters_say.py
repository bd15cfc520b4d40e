"What chapters say in words, beside the numbers they print and the seeds that are stored"
import json, math, re
import pytest
from house import root
from robustfm.costs import speedup

FAULTS = [('learner-F1', 'claims from one seed', 'test_claims_hold_under_each_stored_seed'), ('learner-F2', 'claims from one seed', 'test_answers_come_from_several_seeds'),
          ('learner-F7', 'words against numbers', 'test_words_are_borne_by_numbers')]

lessons = root/'nbs'/'tutorials'
def stored(name): return json.loads((lessons/'results'/f'{name}.json').read_text())['runs']
def cells(n, kind):
    path, = lessons.glob(f'{n:02}_*.ipynb')
    return [c for c in json.loads(path.read_text(encoding='utf-8'))['cells'] if c['cell_type']==kind]
def text(n, kind='markdown'): return '\n'.join(''.join(c['source']) for c in cells(n, kind))

chapters = sorted({r['chapter'] for r in stored('chapter_seeds')})

@pytest.mark.parametrize('chapter', chapters, ids=lambda n: f'learner-F1-chapter-{n}')
def test_claims_hold_under_each_stored_seed(chapter):
    runs = [r for r in stored('chapter_seeds') if r['chapter']==chapter]
    assert len({r['seed'] for r in runs})>=2
    assert not [(r['seed'],c) for r in runs for c,holds in r['claims'].items() if not holds]

@pytest.mark.parametrize('chapter,claim', [(9,'over_seeds('), (11,'over_seeds(11'), (6,'over_seeds(6'), (5,"stored('methods_digits')"), (6,"stored('methods_digits')"), (8,'stored(')],
                         ids=['learner-F1-transfer','learner-F2-tether','learner-F1-additions','learner-F1-dynacl','learner-F1-advcl','learner-F1-coresets'])
def test_answers_come_from_several_seeds(chapter, claim): assert claim in text(chapter, 'code')

def kept(method): return [r['RA'] for r in stored('methods_digits') if r['method']==method]
numbers = 'no one two three four five six seven eight nine ten eleven twelve thirteen'.split()

def dynacl(): return f'by {numbers[round(100*(min(kept("DynACL"))-max(kept("ACL"))))]} points'
def gains(name): return [r['numbers'][name] for r in stored('chapter_seeds') if r['chapter']==6]
def others():
    means = [sum(gains(k))/len(gains(k)) for k in ('inferior positives','hard negatives')]
    return f'{numbers[len(gains("AdvCL"))]} seeds their means lie within {numbers[math.ceil(-min(means))]} points of the first row, below it' if max(means)<0 else f'means {means}'
def labels(): return f'in every seed, but by {numbers[round(min(gains("AdvCL")))]} points in one and by {numbers[round(max(gains("AdvCL")))]} in another'
def warm_up(): return 'more than half of what is left' if .5<100*speedup(1000, 100, .05, 20, 24/42)/1000<.62 else 'other'

words = [('learner-F7-ch4-never-negative', 4, 'AIR can be negative'), ('learner-F7-ch4-scale', 4, 'times less than SIR'), ('learner-F7-ch5', 5, dynacl), ('learner-F7-ch6', 6, others), ('own-ch6-labels', 6, labels),
         ('learner-F7-ch7-price', 7, 'a quarter more'), ('learner-F7-ch7-control', 7, 'a quarter as long'), ('learner-F7-ch8-warm-up', 8, warm_up), ('learner-F7-ch8-collapse', 8, 'collapse'), ('learner-F7-ch12', 12, 'less than one per cent')]

@pytest.mark.parametrize('chapter,say', [w[1:] for w in words], ids=[w[0] for w in words])
def test_words_are_borne_by_numbers(chapter, say):
    say = say() if callable(say) else say
    assert say in text(chapter), say
