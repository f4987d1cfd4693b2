PYTHON ?= python3
BIN := .venv/bin
TARGETS := fig4 fig5 table1 table2 table3 table4 table5 table6

# PROTOCOL=authors trains what the authors' code does instead of what the paper says; docs/protocols.md compares them.
PROTOCOL ?= paper
ifeq ($(filter $(PROTOCOL),paper authors),)
$(error PROTOCOL must be paper or authors, got $(PROTOCOL))
endif
experiment = $(1)$(if $(filter authors,$(PROTOCOL)),_authors)

# SMOKE=1 tries every code path of a target in seconds. A few digits stand in for data sets that are not installed.
ifneq ($(filter-out 0,$(SMOKE)),)
SEEDS ?= 1
RUNS := outputs/smoke
FLAGS := trainer=smoke trainer.max_epochs=1 trainer.max_steps=-1 data.batch_size=8 data.eval_batch_size=8 \
         data.absent=stand_in output_dir=$(RUNS)
BENCHMARK := repetitions=1 batch=2 steps=1 output_dir=$(RUNS)
ANALYSIS := examples=200 curve_examples=50 curve_steps=3
else
SEEDS ?= 1,2,3
RUNS := outputs
endif

# SYSTEMS=all trains the other systems of table 2 too, each with its own recipe; SYSTEMS="nair hitnet" some of them.
EVERY_SYSTEM := sabour_fashion sabour sabour_svhn hinton nair hitnet deepcaps
OTHERS := $(if $(filter all,$(SYSTEMS)),$(EVERY_SYSTEM),$(SYSTEMS))
ifneq ($(filter-out $(EVERY_SYSTEM),$(OTHERS)),)
$(error SYSTEMS must be all or some of "$(EVERY_SYSTEM)", got $(SYSTEMS))
endif

# The steps of a target: after a step that fails the others still run, and the target fails at its end. A signal stops it.
GO_ON = || { failed=$$?; [ $$failed -lt 128 ] || exit $$failed; }
SWEEP = $(BIN)/capsbench train -m experiment=$(1) seed=$(SEEDS) $(FLAGS) $(GO_ON)
TRAIN = $(call SWEEP,$(call experiment,$(1)))
REPORT = $(BIN)/capsbench report experiment=$(call experiment,$(1)) $(if $(FLAGS),output_dir=$(RUNS)) $(2) $(GO_ON)
END = exit $${failed:-0}

# make evidence: JOBS runs at once, each in one thread, which give way to all else that the machine does.
JOBS ?= 1
QUEUE = OMP_NUM_THREADS=1 nice -n 19 $(BIN)/capsbench train -m $(1) seed=$(SEEDS) output_dir=$(RUNS) \
        $(if $(filter-out 1,$(JOBS)),launcher=local hydra.launcher.n_jobs=$(JOBS)) \
        trainer.enable_progress_bar=false $(FLAGS) $(GO_ON)
# In a tenth of the steps data.places=exhaustive would show 3,300 of the 60,000 digits, not half of them.
TENTH_OF_TABLE3 = experiment=table3_authors data.places=fresh router=fm_squash,dynamic1,dynamic,em2,em trainer.max_steps=4000 \
                  trainer.check_val_every_n_epoch=9 \
                  data.test_source=generated data.per_digit=4
FIFTH_OF_FIG4 = data=fashion_mnist arch=capsnet_light trainer.max_epochs=10

.PHONY: demo paper $(TARGETS) evidence networks benchmarks gpu-check wheels test test-engines test-faults lint types format setup

demo: .venv/installed  ## three routers on real digits, a table and outputs/demo/report.html
	@echo "Training six small networks: about 4 minutes on 2 CPU cores. Ctrl-C stops; make demo continues."
	$(BIN)/capsbench train -m experiment=demo router=fm,dynamic,em seed=1,2
	$(BIN)/capsbench report experiment=demo

paper:  ## every table and figure; SEEDS=1,2,3; PROTOCOL=authors; SMOKE=1 tries all of them in minutes
	$(MAKE) --keep-going $(TARGETS)

fig4 fig5 table3 table5 table6: .venv/installed
	$(call TRAIN,$@); $(call REPORT,$@); $(END)

table2: .venv/installed  ## SYSTEMS=all: also the methods of others, as published
	$(call TRAIN,$@); $(foreach system,$(OTHERS),$(call SWEEP,$@_$(system));) \
	$(call REPORT,$@,$(if $(OTHERS),as_published=true)); $(END)

table1: .venv/installed  ## milliseconds per batch
	$(BIN)/capsbench benchmark table1 $(BENCHMARK)

table4: .venv/installed  ## reconstructions and equivariance of table 3's models
	$(call TRAIN,table3); \
	$(BIN)/capsbench analyze reconstructions run=$(RUNS)/$(call experiment,table3) $(GO_ON); \
	$(BIN)/capsbench analyze equivariance run=$(RUNS)/$(call experiment,table3) $(ANALYSIS) $(GO_ON); \
	$(call REPORT,table3); $(END)

evidence: .venv/installed  ## the runs of docs/results.md (fig4: a fifth), 30 hours of a core; after a stop it goes on; JOBS=1, RUNS=outputs
	$(call QUEUE,experiment=factorial); \
	$(call QUEUE,experiment=em_start); \
	$(call QUEUE,$(TENTH_OF_TABLE3)); \
	$(call QUEUE,experiment=fig4 $(FIFTH_OF_FIG4)); \
	$(call QUEUE,experiment=fig4_authors $(FIFTH_OF_FIG4)); $(END)

networks: .venv/installed  ## trains again the small networks that come with the package; processor time: 25 minutes
	$(BIN)/python scripts/keep_networks.py

benchmarks: .venv/installed  ## the speed of layers, table 1, training and scaling on this machine
	for name in layer table1 train scaling; do $(BIN)/capsbench benchmark $$name $(BENCHMARK) || exit; done

gpu-check:  ## tests, speeds and the paper's runs on a CUDA GPU; MINUTES=60 OUT=outputs/gpu-check STEPS="table3 fig4"
	scripts/gpu-check

wheels:  ## the packages that gpu-check needs on a machine with torch and lightning but no network; PYTHON=python3.12
	$(PYTHON) -m pip wheel --quiet --no-deps --wheel-dir wheels -c constraints.txt \
	    hydra-core omegaconf antlr4-python3-runtime hydra-joblib-launcher lazy_loader pooch platformdirs plotly \
	    pydantic pydantic_core annotated-types typing-inspection beartype safetensors

test: .venv/installed-dev  ## several files at once, each in one thread
	OMP_NUM_THREADS=1 $(BIN)/pytest -n logical --maxprocesses 8 --dist worksteal -m "not engines and not faults"

test-engines: .venv/installed-dev  ## what takes long: sweeps with joblib, Ray, Slurm, W&B, DDP, compilers; at most 20 minutes
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder -m "engines and not faults" tests

test-faults: .venv/installed-dev  ## kills, full disks, hostile files, at most 20 minutes; fills docs/reliability.md
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder tests/faults \
	    --reliability docs/reliability.md

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed-dev
	$(BIN)/mypy

format: .venv/installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

setup: .venv/installed-dev  ## everything, with the tools of developers, in the tested versions

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: CapsBench needs Python 3.11 or later, this is " + sys.version.split()[0] + "; try make PYTHON=python3.12")'
	@echo "Installing into .venv: 6 GB on Linux, most of it PyTorch with CUDA. This takes 2 minutes on a fast network."
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -c constraints.txt -e .
	@touch $@

.venv/installed-dev: .venv/installed
	@echo "Adding what tests, lint and launchers need: 0.5 GB."
	$(BIN)/pip install -c constraints.txt -e '.[dev]'
	@touch $@
