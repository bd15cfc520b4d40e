"A notebook saved with its outputs, where no widget runs: nbconvert's page shows every static twin"
import re
import pytest
from house import execute, tidy

@pytest.mark.slow
def test_every_twin_on_a_plain_page(stage):
    from nbconvert import HTMLExporter
    nb = tidy(execute(stage/'nine.ipynb'))
    assert 'widgets' not in nb['metadata']
    for c in nb.cells: assert not any(o.output_type=='error' for o in c.get('outputs', [])), c.source
    page,_ = HTMLExporter().from_notebook_node(nb)
    (stage/'nine.html').write_text(page)
    twins = re.findall(r'<img[^>]*src="data:image/png;base64,', page)
    assert len(twins)==9 and len(page.encode())<=2_000_000
    assert '<img src=x' not in page
