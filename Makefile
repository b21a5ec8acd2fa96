# Hutong. `make help` lists the targets.
SHELL       := /bin/bash
.SHELLFLAGS := -o pipefail -c
GO          ?= go
# The binaries are static; the race detector of the tests needs cgo.
STATIC      := CGO_ENABLED=0
LDFLAGS     := -s -w
# The commit that hutong --version prints. go build can't find it in a worktree or with -buildvcs=false.
COMMIT      := $(shell git describe --always --abbrev=12 --dirty --exclude='*' 2>/dev/null)
# Without a C compiler the tests run without the race detector.
RACE        := $(if $(filter 1,$(shell $(GO) env CGO_ENABLED)),-race)
# Runs go test and records which tests were skipped, and why, in bin/left-out.
GOTEST      := $(CURDIR)/bin/gotest $(CURDIR)/bin/left-out $(GO) test
# The embedded Temporal server takes minutes to build once; tests and linters leave it out.
SLIM        := -tags slim
# make build TAGS=slim leaves the Temporal server out of bin/hutong.
TAGS        ?=
# The reference provider is a Go module of its own.
REFERENCE   := providers/reference
DEVICE      ?= auto
TEST_FLAGS  ?=
# The folder for programs that tests install.
CACHE       ?= $${HUTONG_INTEROP_CACHE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/hutong/interop}
# make chaos: the random seed of faults and jobs, and how long faults are injected.
SEED        ?= 1
FOR         ?= 10m
# make fate: SHORT=1 runs less.
SHORT       ?=
# make bench: see bin/bench -help.
BENCH_FLAGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup build demo test test-race test-memory test-s3 test-k8s test-temporal check histories image interop fate fate-client fate-interop chaos bench bench-peer pictures console check-console console-test console-stage clean FORCE

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what the tests use, on Debian, as root: Docker, PostgreSQL, a C compiler, Python
	test/testenv/setup.sh

build: bin/hutong bin/provider ## build bin/hutong and bin/provider (the first build takes some minutes)

bin/hutong: FORCE
	@mkdir -p bin
	$(STATIC) $(GO) build -tags '$(TAGS)' -ldflags '$(LDFLAGS) -X main.commit=$(COMMIT)' -o $@ ./cmd/hutong

bin/provider: FORCE
	@mkdir -p bin
	cd $(REFERENCE) && $(STATIC) $(GO) build -ldflags '$(LDFLAGS)' -o ../../$@ .

demo: build ## run the reference job: two institutions train a model together (DEVICE=docker, process or auto)
	bin/hutong demo --device $(DEVICE)

bin/gotest: FORCE
	@mkdir -p bin
	@$(STATIC) $(GO) build -o $@ ./test/gotest

test: build bin/gotest check ## run all tests and the linters; needs Go only, and lists what it left out, and why
	@rm -f bin/left-out
	$(if $(RACE),,@bin/gotest -note bin/left-out "the race detector, with all tests" "no C compiler is installed")
	$(if $(shell command -v npm),,@bin/gotest -note bin/left-out "the check of console/dist" "Node.js is not installed")
	@$(MAKE) -k --no-print-directory test-race test-memory test-s3 test-k8s test-temporal; status=$$?; \
		bin/gotest -print bin/left-out && exit $$status

test-race: bin/gotest
	$(GOTEST) $(RACE) $(SLIM) -timeout 45m $(TEST_FLAGS) $$($(GO) list $(SLIM) ./... | grep -v '^hutong/internal/devserver$$')
	cd $(REFERENCE) && $(GOTEST) $(RACE) -timeout 20m $(TEST_FLAGS) ./...

# The race detector changes how much memory a program uses, and makes the tests of 1,000 tasks take minutes.
test-memory: bin/gotest
	$(GOTEST) $(SLIM) -timeout 10m $(TEST_FLAGS) -run '^(TestMemoryIsBounded|TestLargeUpload|TestJobOfThousandTasks|TestThousandTasks)$$' \
		./store/dataset ./api ./workflows/scheduler ./test/system

# Tests of the storage, of what containers reach, and of a whole training, with an S3 server, which it installs.
test-s3: bin/gotest
	test/testenv/s3/with.sh "$(CACHE)" $(GOTEST) $(SLIM) -timeout 10m $(TEST_FLAGS) ./store/blob ./store/dataset ./gate/storage
	test/testenv/s3/with.sh "$(CACHE)" $(GOTEST) $(SLIM) -timeout 10m $(TEST_FLAGS) \
		-run '^(TestReferenceJobOnS3|TestContainersReachTheirOwn|TestModelOnS3)$$' ./test/system
	cd $(REFERENCE) && ../../test/testenv/s3/with.sh "$(CACHE)" $(GOTEST) -timeout 10m $(TEST_FLAGS) .

# Tests of the Kubernetes driver with a real API server, etcd and Job controller. Their first build takes three minutes.
test-k8s: bin/gotest
	test/testenv/k8s/install.sh "$(CACHE)"
	HUTONG_TEST_K8S="$(CACHE)/bin/k8s-cluster" $(GOTEST) $(SLIM) -timeout 10m $(TEST_FLAGS) ./activities/driver/kubernetes

test-temporal: bin/gotest
	$(STATIC) $(GOTEST) -timeout 10m $(TEST_FLAGS) ./internal/devserver

# If go list fails, staticcheck only warns that it found no packages, and succeeds.
staticcheck = { $(GO) tool staticcheck $(1) ./... 2>&1 | awk '{ print } /matched no packages/ { none = 1 } END { exit none }'; }

console: ## build the web pages, console/dist, from console/src; needs Node.js
	cd console && npm ci && npm run --silent check && npm run --silent build

# Go embeds the built pages, so only those who change them need Node.js.
check-console:
	@if ! command -v npm >/dev/null; then echo "left out: the check of console/dist, since Node.js is not installed"; exit 0; fi; \
		cd console && npm ci --silent && npm run --silent check && \
		built=$$(mktemp -d) && trap 'rm -rf "$$built"' EXIT && npm run --silent build -- "$$built" && \
		{ diff -r dist "$$built" || { echo "console/dist is not what console/src builds: run make console"; exit 1; }; }

check: check-console ## gofmt, go vet, staticcheck, the words of docs/glossary.md, the table of imports, the built console
	@files=$$(find . -name '*.go' -exec gofmt -l {} +) && test -z "$$files" || { echo "not gofmt-clean: $$files"; exit 1; }
	$(GO) vet $(SLIM) ./...
	$(call staticcheck,$(SLIM))
	cd $(REFERENCE) && $(GO) vet ./... && $(call staticcheck,)
	$(GO) test $(SLIM) ./internal/vocabulary ./internal/architecture

histories: build ## record the workflow histories for replay tests again, after a change that is incompatible with them
	rm -rf workflows/testdata/histories && mkdir -p workflows/testdata/histories
	HUTONG_RECORD_HISTORIES=$(CURDIR)/workflows/testdata/histories $(GO) test $(SLIM) -count 1 \
		-run '^(TestStop|TestFailure|TestApproval|TestOldJob|TestPartnerDown|TestPartnerRefuses|TestSameJobTwice|TestSchedulerLost|TestKilledAgainAndAgain|TestReferenceJob)$$' ./test/system

image: bin/provider ## build the reference provider's image with the Docker command line
	cp bin/provider $(REFERENCE)/provider
	docker build -t hutong/provider:1.0.0 $(REFERENCE); status=$$?; rm -f $(REFERENCE)/provider; exit $$status

interop: build ## test Hutong with FATE-Flow 2.2.0 and real containers; installs FATE-Flow
	test/interop/fateflow/install.sh "$(CACHE)"
	HUTONG_INTEROP=1 $(GO) test $(SLIM) -count 1 -parallel 16 -timeout 20m $(TEST_FLAGS) -v ./test/interop

fate-client: build ## run FATE's own client, fate_client 2.2.0, against two parties; installs it
	test/fateclient/install.sh "$(CACHE)"
	HUTONG_FATE_CLIENT="$(CACHE)/fate_client" $(GO) test $(SLIM) -count 1 -timeout 10m $(TEST_FLAGS) -v ./test/fateclient

fate: build ## run FATE's own algorithms between two parties; installs FATE (SHORT=1 leaves out SSHE)
	providers/fate/install.sh "$(CACHE)/fate"
	test/fateclient/install.sh "$(CACHE)"
	test/testenv/s3/with.sh "$(CACHE)" "$(CACHE)/fate/bin/python" -m unittest discover providers/fate/tests
	HUTONG_FATE="$(CACHE)/fate" HUTONG_FATE_SHORT=$(SHORT) $(GO) test $(SLIM) -count 1 -timeout 20m $(TEST_FLAGS) -v \
		-run '^TestFATE(Components|Mixed|Fails|Further)$$' ./test/system
	HUTONG_FATE="$(CACHE)/fate" HUTONG_FATE_CLIENT="$(CACHE)/fate_client" $(GO) test $(SLIM) -count 1 -timeout 20m $(TEST_FLAGS) \
		-v -run '^TestFATEPipeline$$' ./test/fateclient
	@echo "make fate: all passed$(if $(SHORT),; SHORT=1 left out SSHE and TestFATEFurther)"

fate-interop: build ## run FATE's own algorithms together with a FATE-Flow 2.2.0, in containers; installs both
	test/interop/fateflow/install.sh "$(CACHE)"
	test/fateclient/install.sh "$(CACHE)"
	providers/fate/install.sh "$(CACHE)/fate"
	test/interop/fate/image.sh "$(CACHE)/fate" hutong/interop-fate:1
	HUTONG_INTEROP=1 HUTONG_FATE_IMAGE=hutong/interop-fate:1 HUTONG_FATE_CLIENT="$(CACHE)/fate_client" $(GO) test $(SLIM) -count 1 \
		-timeout 40m $(TEST_FLAGS) -v -run '^TestFATE(Components|PipelineWithFATEFlow)$$' ./test/interop

chaos: build ## inject faults while jobs run, and check that nothing is lost (FOR=10m SEED=1, or SEED=random)
	$(STATIC) $(GO) build -o bin/chaos ./test/chaos
	bin/chaos --seed $(SEED) --for $(FOR)

bench: build ## measure the overhead of Hutong and how it grows, in about 15 minutes (BENCH_FLAGS='-quick -only read')
	$(STATIC) $(GO) build -o bin/bench ./test/bench
	bin/bench $(BENCH_FLAGS)

bench-peer: build ## measure the same jobs on FATE-Flow 2.2.0 and on Hutong; installs FATE-Flow
	test/interop/fateflow/install.sh "$(CACHE)"
	$(STATIC) $(GO) build -o bin/bench ./test/bench
	bin/bench -only peer -cache "$(CACHE)" $(BENCH_FLAGS)

bin/console-stage: FORCE
	@mkdir -p bin
	@$(STATIC) $(GO) build $(SLIM) -o $@ ./test/console/stage

test/console/node_modules: test/console/package-lock.json
	cd test/console && npm ci --no-audit --no-fund
	@touch $@

console-test: build bin/console-stage test/console/node_modules ## test the console with real parties, in Chromium
	cd test/console && npm run --silent check && npm run --silent test

console-stage: build bin/console-stage ## start the parties and jobs of the console's tests, to look at its pages (ends with Ctrl-D)
	bin/console-stage

pictures: build bin/console-stage test/console/node_modules ## draw docs/*.png again, with Chromium
	$(GO) run $(SLIM) ./test/pictures
	cd test/console && STAGE_FLAGS="-stored 100 -tasks 20" PICTURES=$(CURDIR)/docs npm run --silent test

clean: ## remove the built programs
	rm -rf bin
