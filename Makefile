# Every target works on a fresh checkout; `make setup` installs what is missing.
GO ?= go
# One set of flags everywhere: each set has a build cache of its own.
export GOFLAGS ?= -trimpath

.PHONY: all build setup demo test test-long race lint fuzz neon bench chaos netlab evening clients torch package update skew clean
all: build

build:
	$(GO) build -o bin/idlewild ./cmd/idlewild

setup:
	./scripts/setup

lint:
	./scripts/lint

test: setup build lint
	./scripts/test

# The same with the full counts and sizes of the tests that make do with a part of them.
test-long: setup build lint
	IDLEWILD_SLOW=1 IDLEWILD_TEST_TIMEOUT=2h ./scripts/test

race:
	$(GO) test -race -count=1 ./...

demo: setup build
	$(GO) run ./bench demo $(if $(FILE),--file "$(FILE)")

# Every benchmark, one after the other, into bench/RESULTS.md: hours. ONLY=overhead,efficiency runs some of them.
bench: setup build
	$(GO) run ./bench all $(if $(ONLY),--only $(ONLY))

chaos: setup build
	IDLEWILD_CRASHES=20000 $(GO) test -count=1 -run PowerCuts -v ./internal/recordlog
	IDLEWILD_KILLS=1500 IDLEWILD_IMAGES=20000 IDLEWILD_TASKS=1000000 $(GO) test -count=1 -timeout 1h -run 'KilledAtEveryStep|PowerCutImages|VeryManyTasks' -v ./node/dispatch
	IDLEWILD_ORDERS=1000000 $(GO) test -count=1 -timeout 3h -run ResultsInAnyOrder -v ./node/dispatch
	$(GO) run ./bench chaos
	$(GO) run ./bench steward

# Daemons behind routers, over slow, cut and changing networks: needs root. CUT=3m takes the goal's own time.
netlab:
	$(GO) run ./bench netlab --cut $(or $(CUT),40s)

# An evening's use of a farm, everything together, in some thirty minutes: needs root. IDLEWILD_ONNX_LIBRARY names onnxruntime and
# IDLEWILD_UPSCALER a model that makes pictures twice as large. PHASES=animation,still runs some of it.
evening: build
	$(GO) run ./bench evening $(if $(PHASES),--only "$(PHASES)")

# OpenAI's own clients against the door, fetched by pip and npm. IDLEWILD_ONNX_LIBRARY and IDLEWILD_LLM_SERVER say what answers.
clients:
	python3 -m venv out/clients && out/clients/bin/pip install -q openai==1.109.1
	npm install --silent --no-save --ignore-scripts --prefix out/clients openai@5.23.2
	IDLEWILD_TEST_OPENAI_PYTHON=$(CURDIR)/out/clients/bin/python IDLEWILD_TEST_OPENAI_NODE=$(CURDIR)/out/clients \
		$(GO) test -count=1 -v -run OpenAIsClients ./node

# Tests that need PyTorch, in an environment of its own: 3 GB to fetch. IDLEWILD_TORCH_PYTHON says which is there.
torch: build
	[ -n "$$IDLEWILD_TORCH_PYTHON" ] || bin/idlewild runtime add torch --data-dir out/torch
	IDLEWILD_TORCH_PYTHON=$${IDLEWILD_TORCH_PYTHON:-$$(ls -d $(CURDIR)/out/torch/runtimes/torch-*)} IDLEWILD_REQUIRE=torch \
		$(GO) test -count=1 -timeout 30m -run 'Pipeline|AWorkerLooksAtTheFolder' ./render/ai ./node

fuzz:
	./scripts/fuzz

# A .deb, a tarball and a zip for Windows, in dist/.
package:
	./scripts/package

# A signed update between two real builds.
update:
	IDLEWILD_TEST_UPDATE=1 $(GO) test -count=1 -timeout 20m -run TestUpdateOfRealBuilds -v ./cmd/idlewild

# This program beside a real build of an earlier commit: EARLIER, or the one that the release before is.
skew:
	IDLEWILD_TEST_EARLIER=$(or $(EARLIER),d74498d) $(GO) test -count=1 -timeout 30m -run TestRealBuildOfAnEarlierRelease -v ./cmd/idlewild

# The kernel for arm64, under emulation.
neon:
	./scripts/neon

clean:
	rm -rf bin build dist out
