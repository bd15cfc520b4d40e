"Slides in a browser: none is higher than the screen, and keys go through all of them"
import json
import pytest
from playwright.sync_api import sync_playwright
from robustfm.teach.classroom import slides

pytestmark = pytest.mark.browser
pytest.importorskip('latex2mathml', reason='needs latex2mathml: pip install robustfm[classroom]')

def prose(text): return dict(cell_type='markdown', metadata={}, source=text)

@pytest.fixture
def deck(tmp_path, chromium):
    "A chapter of two headings, the first with more below it than three screens hold, as slides on a projector"
    cells = [prose('# One'), *[prose(f'word {i}\n\n'*5) for i in range(12)], prose('## Two'), prose('the end')]
    book  = tmp_path/'01_one.ipynb'
    book.write_text(json.dumps(dict(cells=cells, metadata={}, nbformat=4, nbformat_minor=4)))
    (tmp_path/'s.html').write_text(slides(book), encoding='utf-8')
    with sync_playwright() as p:
        b = p.chromium.launch(executable_path=chromium, args=['--no-sandbox','--disable-gpu','--disable-dev-shm-usage'])
        page = b.new_page(viewport=dict(width=1280, height=800))
        page.goto((tmp_path/'s.html').as_uri())
        yield page
        b.close()

def test_every_slide_fits_the_screen(deck):
    assert deck.evaluate("[...document.querySelectorAll('section')].every(s => s.getBoundingClientRect().height<=innerHeight+4)")
    assert deck.evaluate("document.querySelectorAll('section').length")>2

def test_keys_go_through_every_slide(deck):
    "What was moved to a slide of its own is seen, in order"
    n,seen = deck.evaluate("document.querySelectorAll('section').length"),[]
    for i in range(n):
        assert deck.locator('#at').text_content()==f'{i+1} / {n}'
        seen += deck.evaluate("[...document.querySelectorAll('section')].find(s => Math.abs(s.getBoundingClientRect().top)<4).innerText.match(/word \\d+|the end/g) ?? []")
        deck.keyboard.press('ArrowRight')
    assert list(dict.fromkeys(seen))==[*(f'word {i}' for i in range(12)),'the end'] and deck.locator('#at').text_content()==f'{n} / {n}'
