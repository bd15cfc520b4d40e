"JupyterLab and Voilà on loopback, and a Chromium that opens nothing else"
import contextlib, json, os, shutil, socket, subprocess, sys, time, urllib.request
from pathlib import Path
from playwright.sync_api import sync_playwright

harmless = { # requests that fail and cost nothing: why
    'favicon.ico': 'a page without an icon',
    '/voila/templates/offline/static/': 'Voilà looks for style sheets of a template that has none'}

def free_port():
    with socket.socket() as s: s.bind(('127.0.0.1', 0)); return s.getsockname()[1]

def notebook(path, *cells):
    "A notebook of code cells"
    made = [dict(cell_type='code', id=f'c{i}', metadata={}, source=c.strip().splitlines(True), outputs=[], execution_count=None) for i,c in enumerate(cells)]
    kernel = dict(kernelspec=dict(display_name='python3', language='python', name='python3'))
    Path(path).write_text(json.dumps(dict(cells=made, metadata=kernel, nbformat=4, nbformat_minor=5)))

def environment(home):
    "Settings of their own for each server, and one thread a process"
    return {**os.environ, 'JUPYTER_CONFIG_DIR':str(home/'.config'), 'JUPYTERLAB_SETTINGS_DIR':str(home/'.settings'), 'JUPYTERLAB_WORKSPACES_DIR':str(home/'.spaces'),
            'JUPYTER_RUNTIME_DIR':str(home/'.run'), 'OMP_NUM_THREADS':'1', 'JUPYTER_PREFER_ENV_PATH':'1'}

@contextlib.contextmanager
def serving(command, home, port, ready, env):
    with open(home/'server.log', 'w') as log: server = subprocess.Popen(command, cwd=home, env=env, stdout=log, stderr=subprocess.STDOUT)
    try:
        for _ in range(960):
            try: urllib.request.urlopen(f'http://127.0.0.1:{port}{ready}', timeout=5).read(); break
            except OSError: time.sleep(.25)
            assert server.poll() is None, (home/'server.log').read_text()[-3000:]
        else: raise TimeoutError((home/'server.log').read_text()[-3000:])
        yield f'http://127.0.0.1:{port}'
    finally:
        server.terminate()
        try: server.wait(20)
        except subprocess.TimeoutExpired: server.kill()

def lab(home):
    "A JupyterLab for the notebooks in `home`"
    news = home/'.settings'/'@jupyterlab'/'apputils-extension'
    news.mkdir(parents=True, exist_ok=True)
    (news/'notification.jupyterlab-settings').write_text('{"fetchNews":"false","checkForUpdates":false}')
    port = free_port()
    return serving([sys.executable,'-m','jupyterlab','--no-browser','--allow-root','--ip=127.0.0.1',f'--port={port}','--ServerApp.port_retries=0', '--IdentityProvider.token=','--ServerApp.password=',
        f'--ServerApp.root_dir={home}','--LabApp.expose_app_in_browser=True','--LabApp.news_url=','--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate','--LabApp.extension_manager=readonly'],
        home, port, '/api/status', environment(home))

def voila(home, nb):
    "Voilà for one notebook, with a template that takes its icons from Voilà itself: the stock one asks a CDN for them"
    template = home/'data'/'voila'/'templates'/'offline'
    template.mkdir(parents=True, exist_ok=True)
    (template/'conf.json').write_text('{"base_template": "lab", "mimetypes": {"text/html": true}}')
    (template/'index.html.j2').write_text("{%- extends 'lab/index.html.j2' -%}\n{%- block notebook_css -%}{{ super() | replace('https://cdn.jsdelivr.net/npm/@fortawesome/fontawesome-free@^5/css/', 'data:text/css,') }}{%- endblock -%}\n")
    port = free_port()
    return serving([sys.executable,'-m','voila',str(home/nb),'--no-browser',f'--port={port}','--Voila.ip=127.0.0.1','--template=offline','--VoilaConfiguration.show_tracebacks=True'],
        home, port, '/voila/static/voila.js', {**environment(home), 'JUPYTER_PATH':str(home/'data')})

class Page:
    "A browser page that keeps what it asked for beyond its server, and what went wrong"
    def __init__(self, page, base):
        self.page,self.base,self.outside,self.errors = page,base,[],[]
        page.set_default_navigation_timeout(180000); page.set_default_timeout(60000) # a busy machine
        mine = (base, base.replace('http','ws'), 'data:', 'blob:', 'about:')
        page.route(lambda u: not u.startswith(mine), lambda r: r.abort())
        page.on('request', lambda r: None if r.url.startswith(mine) else self.outside.append(r.url))
        page.on('pageerror', lambda e: self.errors.append(str(e.stack or e)[:400]))
        page.on('console', lambda m: self.errors.append(f"{m.text[:400]} ({m.location.get('url')})") if m.type=='error' and not any(h in m.location.get('url','') for h in harmless) else None)

    def open(self, nb):
        "Open a notebook in JupyterLab, and wait for its kernel"
        p = self.page
        p.goto(f'{self.base}/lab/tree/{nb}?reset')
        p.wait_for_selector('.jp-NotebookPanel .jp-Cell', timeout=180000)
        p.wait_for_function('() => window.jupyterapp?.shell?.currentWidget?.sessionContext', timeout=180000)
        p.evaluate("""async () => { const w = window.jupyterapp.shell.currentWidget; await w.context.ready; await w.sessionContext.ready; await w.sessionContext.session.kernel.info;
            window.jupyterapp.commands.execute('application:toggle-left-area') }""")
        return self

    def run(self, what, cell=0):
        "A command of JupyterLab's menu, such as 'notebook:run-all-cells', with a cell made the active one (-1: the last); goes on while it runs"
        self.page.evaluate("""([what,i]) => { const c = window.jupyterapp.shell.currentWidget.content; c.activeCellIndex = i<0 ? c.widgets.length+i : i; window.jupyterapp.commands.execute(what) }""", [what,cell])
        return self

    def drawn(self, i, more_than=0, timeout=60000):
        "Wait until the i-th explorer has been drawn once more; how often it was"
        d = '[...document.querySelectorAll(".robustfm-live")][i]?.querySelector("[data-drawn]")'
        times = self.page.wait_for_function(f'([i,n]) => {{ const d = {d}; return d && +d.dataset.drawn > n && +d.dataset.drawn }}', arg=[i,more_than], timeout=timeout, polling=50)
        return times.json_value()

    def explorer(self, i): return self.page.locator('.robustfm-live').nth(i)

@contextlib.contextmanager
def browsing(chromium, base, width=1280, height=1400):
    with sync_playwright() as p:
        b = p.chromium.launch(executable_path=chromium, headless=True, args=['--no-sandbox','--disable-gpu','--disable-quic','--no-first-run','--disable-background-networking',
            '--disable-component-update','--disable-sync','--disable-dev-shm-usage'])
        try: yield Page(b.new_context(viewport=dict(width=width, height=height)).new_page(), base)
        finally: b.close()
