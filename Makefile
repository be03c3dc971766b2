# Everything a newcomer needs: `make demo` and `make test`.

PYTHON ?= python3
LOCK := requirements/lock.txt
HASH := import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest()[:12])
# One environment for each lock, outside the clone: a second run is quick.
CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/ppcd_mmagic
ENV := $(CACHE)/env-$(shell $(PYTHON) -c '$(HASH)' $(LOCK))
PY := $(ENV)/bin/python
# a command that runs when no other holds the lock, a file
ALONE := import fcntl, subprocess, sys; held = open(sys.argv[1], "w"); fcntl.flock(held, fcntl.LOCK_EX); sys.exit(subprocess.call(sys.argv[2:]))
export PYTHONPATH := $(CURDIR)
export PYTHONWARNINGS := ignore

TEACHER := checkpoints/biggan_digits_16.pth
# students of another teacher are kept apart
RUNS := work_dirs
DEMO := $(RUNS)/demo
DENSE := $(RUNS)/ppcd_digits_16_dense
STUDENT := $(RUNS)/ppcd_digits_16_alpha06
JUDGE := work_dirs/classifier_digits_16
FULL := work_dirs/full
UNDER_TEACHER := --cfg-options model.teacher.checkpoint=$(TEACHER)

# tools that look at code and docs, apart from what the code runs with
QUALITY := $(CACHE)/quality-$(shell $(PYTHON) -c '$(HASH)' requirements/quality.txt)
# what `make mutants` needs beside the environment, in a folder of its own
MUTMUT := $(CACHE)/mutants-$(shell $(PYTHON) -c '$(HASH)' requirements/mutants.txt)
# the oldest torch that is promised, beside the rest of the lock
OLDEST := $(CACHE)/oldest-$(shell $(PYTHON) -c '$(HASH)' $(LOCK))
# where `make test-install` installs what a user would; removed at its end
TRIAL := $(CACHE)/test-install
TRIAL_PIP := $(TRIAL)/env/bin/pip install --quiet --disable-pip-version-check --retries 10 --timeout 60

.PHONY: help env build-env activate demo demo-full test test-install test-oldest quality tables docs mutants clean

help:
	@echo 'make demo       train a student under the teacher kept in checkpoints/,'
	@echo '                export it, and write $(DEMO)/report.html'
	@echo 'make demo-full  the same, but train the teacher as well; $(FULL)/demo/report.html'
	@echo 'make test       run the tests; ARGS="-k export" for some of them'
	@echo 'make test-install  install the sources by plain pip into an empty'
	@echo '                environment and run its tests (ten minutes, 8 GB)'
	@echo 'make test-oldest  the tests on torch 2.1.2, the oldest that is promised'
	@echo 'make quality    ruff and mypy; settings are in pyproject.toml'
	@echo 'make mutants    which small wrong changes the tests notice, docs/tests.md;'
	@echo '                MODULE=losses for one module, SAMPLE=9999 for all'
	@echo '                mutants of each, not 300 at most, JOBS=1 for one core'
	@echo 'make tables     put the tables of docs/results into the pages of docs/'
	@echo 'make docs       the pages of docs/ as a site, in work_dirs/site'
	@echo 'make env        set up the environment only, and say where it is'
	@echo 'make activate   print what makes it the one that `python` means here:'
	@echo '                eval "$$(make -s activate)"'
	@echo 'make clean      forget the runs of the demo'

env: $(ENV)/.complete
	@echo '$(PY)'

activate: $(ENV)/.complete
	@echo 'export PATH="$(ENV)/bin:$$PATH" PYTHONPATH="$(CURDIR)" PYTHONWARNINGS=ignore'

# no prerequisite: the name says which lock it is of, and every clone's is newer
$(ENV)/.complete:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; v == (3, 11) or sys.exit("the lock is for Python 3.11, but $(PYTHON) is %d.%d: call make with PYTHON=python3.11" % v)'
	@mkdir -p '$(CACHE)'
	@$(PYTHON) -c '$(ALONE)' '$(ENV).lock' $(MAKE) --no-print-directory build-env

# whoever waited for another that built it finds it there
build-env:
	@[ -e '$(ENV)/.complete' ] || { \
	  echo 'setting up $(ENV) (about two minutes, 6 GB)' >&2 && \
	  rm -rf '$(ENV)' && \
	  $(PYTHON) -m venv --without-pip '$(ENV)' && \
	  $(PYTHON) -m pip --python '$(PY)' install --quiet --no-deps --disable-pip-version-check -r $(LOCK) && \
	  touch '$(ENV)/.complete'; }

demo: $(ENV)/.complete
	@echo '1/5 the classifier that will judge the digits'
	@$(PY) tools/train.py configs/classifier/classifier_digits_16.py --resume
	@echo '2/5 the dense student, under the teacher $(TEACHER)'
	@$(PY) tools/train.py configs/ppcd_gan/ppcd_digits_16_dense.py --work-dir $(DENSE) --resume $(UNDER_TEACHER)
	@echo '3/5 the PPCD student, pruned to alpha 0.6 while it trains'
	@$(PY) tools/train.py configs/ppcd_gan/ppcd_digits_16_alpha06.py --work-dir $(STUDENT) --resume $(UNDER_TEACHER)
	@echo '4/5 export'
	@$(PY) tools/export.py configs/ppcd_gan/ppcd_digits_16_alpha06.py "$(STUDENT)/$$(cat $(STUDENT)/last_checkpoint)"
	@echo '5/5 report'
	@$(PY) tools/report.py \
	  --model 'teacher' configs/biggan/biggan_digits_16.py $(TEACHER) \
	  --model 'dense student' configs/ppcd_gan/ppcd_digits_16_dense.py "$(DENSE)/$$(cat $(DENSE)/last_checkpoint)" \
	  --model 'exported student' $(STUDENT)/export/config.py $(STUDENT)/export/generator.pth \
	  --classifier configs/classifier/classifier_digits_16.py "$(JUDGE)/$$(cat $(JUDGE)/last_checkpoint)" \
	  --curves $(STUDENT) --export $(STUDENT)/export --out $(DEMO)/report.html

demo-full: $(ENV)/.complete
	@echo 'the teacher'
	@$(PY) tools/train.py configs/classifier/classifier_digits_16.py --resume
	@$(PY) tools/train.py configs/biggan/biggan_digits_16.py --work-dir $(FULL)/biggan_digits_16 --resume
	@$(MAKE) --no-print-directory demo RUNS=$(FULL) \
	  TEACHER="$(FULL)/biggan_digits_16/$$(cat $(FULL)/biggan_digits_16/last_checkpoint)"

# a process for each core, each with one thread: networks this small gain
# nothing from a second
test: $(ENV)/.complete
	@OMP_NUM_THREADS=1 $(PY) -m pytest -n logical --dist worksteal $(ARGS)

# The sources as they are published, without this tree and without the lock:
# what is imported is what pip has installed.
test-install:
	@rm -rf '$(TRIAL)'
	@$(PYTHON) -m venv '$(TRIAL)/env'
	@$(TRIAL_PIP) 'setuptools>=77,<81'
	@$(TRIAL)/env/bin/python -c 'from setuptools import build_meta; build_meta.build_sdist("$(TRIAL)")' > /dev/null
	@mkdir '$(TRIAL)/sources'
	@tar -xzf $(TRIAL)/*.tar.gz -C '$(TRIAL)/sources' --strip-components 1
	@$(TRIAL_PIP) '$(TRIAL)/sources[lite,export,tests]' \
	  || { echo 'pip could not install what pyproject.toml asks for: is PyPI reached, is there room for 8 GB?' >&2; exit 1; }
	@rm -r '$(TRIAL)/sources/ppcd_mmagic'
	@cd '$(TRIAL)/sources' && unset PYTHONPATH && '$(TRIAL)/env/bin/pytest' -q -o pythonpath=tests \
	  tests/test_install.py tests/test_compat.py tests/test_sampling.py
	@rm -rf '$(TRIAL)'

$(OLDEST)/.complete:
	@rm -rf '$(OLDEST)'
	@$(PYTHON) -m venv '$(OLDEST)'
	@grep -vE '^(torch|torchvision|triton|cuda-.*|nvidia-(cu|n).*)==' $(LOCK) > '$(OLDEST)/lock.txt'
	@$(OLDEST)/bin/pip install --quiet --no-deps --disable-pip-version-check -r '$(OLDEST)/lock.txt'
	@$(OLDEST)/bin/pip install --quiet --disable-pip-version-check torch==2.1.2 torchvision==0.16.2
	@touch $@

# not those of benchmarks, which that torch cannot measure (memory)
test-oldest: $(OLDEST)/.complete
	@OMP_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest -n logical --dist worksteal \
	  --ignore tests/test_benchmarks.py

$(QUALITY)/.complete:
	@rm -rf '$(QUALITY)'
	@$(PYTHON) -m venv '$(QUALITY)'
	@$(QUALITY)/bin/pip install --quiet --disable-pip-version-check -r requirements/quality.txt
	@touch $@

quality: $(QUALITY)/.complete $(ENV)/.complete
	@$(QUALITY)/bin/ruff format --check --quiet --diff .
	@$(QUALITY)/bin/ruff check .
	@$(QUALITY)/bin/mypy --python-executable '$(PY)'

$(MUTMUT)/.complete: $(ENV)/.complete
	@rm -rf '$(MUTMUT)'
	@$(PYTHON) -m pip --python '$(PY)' install --quiet --no-deps --disable-pip-version-check --target '$(MUTMUT)' -r requirements/mutants.txt
	@touch $@

mutants: export PYTHONPATH := $(CURDIR):$(CURDIR)/tests:$(MUTMUT)
mutants: export OMP_NUM_THREADS := 1
mutants: $(MUTMUT)/.complete
	@$(PY) -m pytest -q tests/test_mutants.py
	@nice $(PY) -m mutants.run $(MODULE) $(addprefix --sample ,$(SAMPLE)) $(addprefix --jobs ,$(JOBS))

tables: $(ENV)/.complete
	@$(PY) benchmarks/fill_tables.py

docs: $(QUALITY)/.complete
	@$(QUALITY)/bin/mkdocs build --quiet --strict

clean:
	rm -rf $(DEMO) $(JUDGE) $(DENSE) $(STUDENT) $(FULL)
