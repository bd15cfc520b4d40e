# make demo | test | lab: each first sets up .venv where it is missing or out of date
PY ?= python3
N  ?= 2
V  := .venv
IN := settings.ini setup.py pyproject.toml

# uv reads its own variables, not pip's
empty :=
space := $(empty) $(empty)
comma := ,
ifdef PIP_FIND_LINKS
export UV_FIND_LINKS ?= $(subst $(space),$(comma),$(strip $(PIP_FIND_LINKS)))
endif
ifdef PIP_INDEX_URL
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif
ifdef PIP_CERT
export SSL_CERT_FILE ?= $(PIP_CERT)
endif

# $(call install,ENVIRONMENT,ARGUMENTS): uv takes seconds; pip takes a minute and does the work where uv is not to be had or fails
define install
	@$(PY) -c 'import sys; sys.exit(sys.version_info<(3,10))' || { echo "robustfm needs Python 3.10 or newer, and $(PY) is older: make PY=/path/to/python3.12 ..."; exit 1; }
	@test -x $(1)/bin/python || $(PY) -m venv $(1) || { rm -rf $(1); echo "$(PY) cannot make a virtual environment: on Debian and Ubuntu, apt-get install python3-venv"; exit 1; }
	@echo "installing into $(1)"
	@{ $(1)/bin/python -m pip -q --disable-pip-version-check install uv && $(1)/bin/uv pip install -q --python $(1)/bin/python $(2); } || \
	  { echo "without uv: this takes longer"; $(1)/bin/python -m pip -q --disable-pip-version-check install $(2); }
endef

help:
	@echo "make demo         the main job on real digits: a table and report.html"
	@echo "make lab          JupyterLab on the tutorials"
	@echo "make test         every test, those of the explorers in a browser last"
	@echo "make fast         the tests that take seconds;   make browser drives the explorers in JupyterLab and Voilà"
	@echo "make test-latest  the same against the newest release of every dependency"
	@echo "make export       notebooks -> robustfm/, README.md;   make notebooks stores their outputs anew"
	@echo "make docs         the pages, in _docs/;   make bench   the benchmarks"
	@echo "make release      wheel and source in dist/, tried in empty environments"

setup: $(V)/.ready
$(V)/.ready: $(IN) constraints.txt
	$(call install,$(V),-c constraints.txt -e '.[dev]')
	@touch $@

demo: setup
	$(V)/bin/robustfm demo $(ARGS)

lab: setup
	$(V)/bin/jupyter lab nbs/tutorials $(ARGS)

# one thread a worker: N workers with a thread a core each would wait for one another; a browser has the machine to itself
test: setup
	OMP_NUM_THREADS=1 $(V)/bin/python -m pytest -n $(N) --dist worksteal --ignore=tests/browser $(ARGS)
	$(if $(ARGS),,OMP_NUM_THREADS=1 $(V)/bin/python -m pytest tests/browser)

# the explorers in JupyterLab and Voilà, driven by Chromium
browser: setup
	OMP_NUM_THREADS=1 $(V)/bin/python -m pytest tests/browser $(ARGS)

# and what the pages show of them
pictures: setup
	PICTURES=1 OMP_NUM_THREADS=1 $(V)/bin/python -m pytest tests/browser -k pictures_for_the_pages
	$(V)/bin/python tests/house.py pictures

fast: setup
	OMP_NUM_THREADS=1 $(V)/bin/python -m pytest -n $(N) --dist worksteal -m 'not slow and not browser' $(ARGS)

test-latest:
	$(call install,$(V)-latest,--upgrade -e '.[dev]')
	OMP_NUM_THREADS=1 $(V)-latest/bin/python -m pytest -n $(N) --dist worksteal -m 'not slow and not browser' $(ARGS)

bench: setup
	@for f in tests/bench/bench_*.py; do echo "== $$f"; $(V)/bin/python $$f $(ARGS) || exit 1; done

export: setup
	$(V)/bin/python tests/house.py export
	$(V)/bin/nbdev_clean
	$(V)/bin/python tests/house.py readme

notebooks: setup
	$(V)/bin/python tests/house.py run $(ARGS)

docs: setup
	$(V)/bin/python tests/house.py docs

# the newest set that fits together on every Python from 3.10 up; without NEW=1 it keeps the versions it can
constraints: setup
	UV_FIND_LINKS= $(V)/bin/uv pip compile -q --universal --python-version 3.10 --extra dev --extra docs $(if $(NEW),--upgrade) --no-annotate \
	  --custom-compile-command 'make constraints' pyproject.toml -o constraints.txt

# built, and tried in empty environments of the oldest and the newest Python; nothing is uploaded
release: setup
	$(V)/bin/python tests/release.py $(ARGS)

clean:
	rm -rf build dist _proc _docs *.egg-info .pytest_cache
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

.PHONY: help setup demo lab test browser pictures fast test-latest bench export notebooks docs constraints release clean
