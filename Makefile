# Hutong. `make help` lists the targets.
SHELL       := /bin/bash
.SHELLFLAGS := -o pipefail -c
GO          ?= go
# The binaries are static; the race detector of the tests needs cgo.
STATIC      := CGO_ENABLED=0
LDFLAGS     := -s -w
# The commit that hutong --version prints. go build can't find it in a worktree or with -buildvcs=false.
COMMIT      := $(shell git describe --always --abbrev=12 --dirty --exclude='*' 2>/dev/null)
# The version and the time of what make image and make archive build. A commit without a tag has a version of its time.
VERSION     ?= $(shell git describe --tags --exact-match 2>/dev/null || TZ=UTC git log -1 --abbrev=12 --date=format-local:%Y%m%d%H%M%S \
	--format=0.0.0-%cd-%h 2>/dev/null)$(if $(findstring -dirty,$(COMMIT)),-dirty)
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null)
PACK         = $(GO) run ./cmd/pack -version '$(VERSION)' -commit '$(COMMIT)' -date '$(SOURCE_DATE_EPOCH)'
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
# make chaos: RESTORE=1 also restores services of parties from backups.
RESTORE     ?=
# make upgrade: the older version.
FROM        ?= $(shell git describe --tags --abbrev=0 2>/dev/null)
# make fate: SHORT=1 runs less.
SHORT       ?=
# make bench: see bin/bench -help.
BENCH_FLAGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup prepare build demo test test-race test-memory test-s3 test-k8s test-temporal check histories image archive image-test interop fate fate-client fate-interop chaos upgrade bench bench-peer bench-fate pictures console check-console console-test console-load console-stage clean FORCE

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what the tests use, on Debian, as root: Docker, PostgreSQL, a C compiler, Python
	test/testenv/setup.sh

prepare: ## install what test, interop, fate-client and fate install, beforehand
	test/testenv/k8s/install.sh "$(CACHE)"
	test/interop/fateflow/install.sh "$(CACHE)"
	test/fateclient/install.sh "$(CACHE)"
	providers/fate/install.sh "$(CACHE)/fate"

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

# make check has run go vet, and the two tests that only read the source.
test-race: bin/gotest
	$(GOTEST) $(RACE) $(SLIM) -vet=off -timeout 45m $(TEST_FLAGS) \
		$$($(GO) list $(SLIM) ./... | grep -v '^hutong/internal/\(devserver\|vocabulary\|architecture\)$$')
	cd $(REFERENCE) && $(GOTEST) $(RACE) -vet=off -timeout 20m $(TEST_FLAGS) ./...

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

.PHONY: test-kubelet
test-kubelet: build bin/gotest ## run the Kubernetes driver's suite, and jobs of two parties, on a cluster with real kubelets; needs root on Debian
	test/testenv/k8s/install.sh "$(CACHE)" node
	test/testenv/s3/with.sh "$(CACHE)" test/testenv/k8s/with.sh "$(CACHE)" $(GOTEST) $(SLIM) -count 1 -p 1 -timeout 40m $(TEST_FLAGS) \
		-v -run '^TestKubelet' ./activities/driver/kubernetes ./test/system

.PHONY: test-helm
test-helm: build ## test the Helm chart: what it renders, whether Hutong and Kubernetes accept that, and what it refuses
	cd test/helm && $(GO) vet ./... && $(GO) test -count 1 -timeout 10m $(TEST_FLAGS) ./...

.PHONY: test-helm-cluster
test-helm-cluster: build ## install two parties by the Helm chart on a cluster with real kubelets, lose a transport and upgrade them while jobs run; needs root on Debian
	test/testenv/k8s/install.sh "$(CACHE)" node
	test/testenv/s3/install.sh "$(CACHE)"
	cd test/helm/cluster && $(STATIC) $(GO) build -ldflags '$(LDFLAGS)' -o "$(CACHE)/bin/helm" helm.sh/helm/v4/cmd/helm
	HUTONG_TEST_BIN="$(CACHE)/bin" test/testenv/k8s/with.sh "$(CACHE)" sh -c \
		'cd test/helm/cluster && $(GO) test -count 1 -timeout 25m $(TEST_FLAGS) -v .'

test-temporal: bin/gotest
	$(STATIC) $(GOTEST) -timeout 10m $(TEST_FLAGS) ./internal/devserver

# If go list fails, staticcheck only warns that it found no packages, and succeeds.
staticcheck = { $(GO) tool staticcheck $(1) ./... 2>&1 | awk '{ print } /matched no packages/ { none = 1 } END { exit none }'; }

console: ## build the web pages, console/dist, from console/src; needs Node.js
	cd console && npm ci && npm run --silent check && npm run --silent build

# Go embeds the built pages, so only those who change them need Node.js.
check-console:
	@if ! command -v npm >/dev/null; then echo "left out: the check of console/dist, since Node.js is not installed"; \
		test "$$HUTONG_REQUIRE_CONSOLE" != 1; exit; fi; \
		cd console && npm ci --silent && npm run --silent check && \
		built=$$(mktemp -d) && trap 'rm -rf "$$built"' EXIT && npm run --silent build -- "$$built" && \
		{ diff -r dist "$$built" || { echo "console/dist is not what console/src builds: run make console"; exit 1; }; }

check: check-console ## gofmt, go vet, staticcheck, the words of docs/glossary.md, the table of imports, the built console
	@files=$$(find . -name '*.go' -exec gofmt -l {} +) && test -z "$$files" || { echo "not gofmt-clean: $$files"; exit 1; }
	$(GO) vet $(SLIM) ./...
	$(call staticcheck,$(SLIM))
	cd $(REFERENCE) && $(GO) vet ./... && $(call staticcheck,)
	$(GO) test $(SLIM) ./internal/vocabulary ./internal/architecture

histories: build ## record the workflow histories of this version again; those of older ones stay
	rm -rf workflows/testdata/merged && mkdir -p workflows/testdata/merged
	HUTONG_RECORD_HISTORIES=$(CURDIR)/workflows/testdata/merged $(GO) test $(SLIM) -count 1 \
		-run '^(TestStop|TestFailure|TestApproval|TestOldJob|TestPartnerDown|TestPartnerRefuses|TestSameJobTwice|TestSchedulerLost|TestKilledAgainAndAgain|TestReferenceJob|TestPeriodic|TestContinueAsNew)$$' ./test/system

image: ## build the images of Hutong and of the reference provider in bin/images, for amd64 and arm64, and load them into Docker
	$(PACK) -out bin/images
	@if docker info >/dev/null 2>&1; then for image in bin/images/*-linux-$$($(GO) env GOARCH).tar; do docker load -q -i $$image; done; \
		else echo "left out: docker load, since no Docker Engine answers"; fi

archive: ## write bin/hutong-VERSION.tar.gz: programs, images, units, documents, licences, to install without a network
	$(PACK) -out bin -archive

.PHONY: compose-test
compose-test: image ## run two institutions with docker compose, train a model, and restart each service meanwhile; as root, on Debian
	deploy/compose/try.sh "$(CACHE)/compose"

image-test: build ## build the images twice, in different folders and with empty caches, and compare
	HUTONG_TEST_IMAGE=1 $(GO) test $(SLIM) -count 1 -timeout 60m $(TEST_FLAGS) -v -run '^Test(BuildsAreReproducible|ImageRunsConfined)$$' ./internal/pack

interop: build ## test Hutong with FATE-Flow 2.2.0 and real containers; installs FATE-Flow
	test/interop/fateflow/install.sh "$(CACHE)"
	HUTONG_INTEROP=1 $(GO) test $(SLIM) -count 1 -parallel 16 -timeout 20m $(TEST_FLAGS) -v ./test/interop

fate-client: build ## run FATE's own client, fate_client 2.2.0, against two parties; installs it
	test/fateclient/install.sh "$(CACHE)"
	HUTONG_FATE_CLIENT="$(CACHE)/fate_client" $(GO) test $(SLIM) -count 1 -timeout 10m $(TEST_FLAGS) -v ./test/fateclient

fate: build ## run FATE's own algorithms between two parties; installs FATE (SHORT=1 runs less)
	providers/fate/install.sh "$(CACHE)/fate"
	test/fateclient/install.sh "$(CACHE)"
	test/testenv/s3/with.sh "$(CACHE)" "$(CACHE)/fate/bin/python" -m unittest discover providers/fate/tests
	HUTONG_FATE="$(CACHE)/fate" HUTONG_FATE_SHORT=$(SHORT) $(GO) test $(SLIM) -count 1 -timeout 60m $(TEST_FLAGS) -v \
		-run '^TestFATE(Components|Mixed|Fails|Further|Regressions|Homo|HeteroNN)$$' ./test/system
	HUTONG_FATE="$(CACHE)/fate" HUTONG_FATE_CLIENT="$(CACHE)/fate_client" $(GO) test $(SLIM) -count 1 -timeout 20m $(TEST_FLAGS) \
		-v -run '^TestFATEPipeline$$' ./test/fateclient
	@echo "make fate: all passed$(if $(SHORT),; SHORT=1 left out SSHE, TestFATEFurther, TestFATERegressions, TestFATEHomo and TestFATEHeteroNN)"

fate-interop: build ## run FATE's own algorithms together with a FATE-Flow 2.2.0, in containers; installs both
	test/interop/fateflow/install.sh "$(CACHE)"
	test/fateclient/install.sh "$(CACHE)"
	providers/fate/install.sh "$(CACHE)/fate"
	test/interop/fate/image.sh "$(CACHE)/fate" hutong/interop-fate:1
	HUTONG_INTEROP=1 HUTONG_FATE_IMAGE=hutong/interop-fate:1 HUTONG_FATE_CLIENT="$(CACHE)/fate_client" $(GO) test $(SLIM) -count 1 \
		-timeout 40m $(TEST_FLAGS) -v -run '^TestFATE(Components|PipelineWithFATEFlow)$$' ./test/interop

chaos: build ## inject faults while jobs run, and check that nothing is lost (FOR=10m SEED=1, or SEED=random; RESTORE=1 also restores backups)
	$(STATIC) $(GO) build -o bin/chaos ./test/chaos
	bin/chaos --seed $(SEED) --for $(FOR) $(if $(filter-out 0,$(RESTORE)),--restore)

upgrade: build ## the same faults, while processes change between this version and an older one, in every mix (FROM=tag or commit)
	$(STATIC) $(GO) build -o bin/chaos ./test/chaos
	test/chaos/older.sh '$(FROM)' bin/hutong-older
	bin/chaos --seed $(SEED) --for $(FOR) --older bin/hutong-older
	HUTONG_TEST_OLDER=$(CURDIR)/bin/hutong-older $(GO) test $(SLIM) -count 1 -run '^TestTwoTransports$$' ./internal/party

bench: build ## measure the overhead of Hutong and how it grows, in about 15 minutes (BENCH_FLAGS='-quick -only read')
	$(STATIC) $(GO) build -o bin/bench ./test/bench
	bin/bench $(BENCH_FLAGS)

bench-peer: build ## measure the same jobs on FATE-Flow 2.2.0 and on Hutong; installs FATE-Flow
	test/interop/fateflow/install.sh "$(CACHE)"
	$(STATIC) $(GO) build -o bin/bench ./test/bench
	bin/bench -only peer -cache "$(CACHE)" $(BENCH_FLAGS)

bench-fate: build ## measure FATE's own components on FATE-Flow 2.2.0 and on Hutong; installs both
	test/interop/fateflow/install.sh "$(CACHE)"
	providers/fate/install.sh "$(CACHE)/fate"
	test/interop/fateflow/components.sh "$(CACHE)"
	$(STATIC) $(GO) build -o bin/bench ./test/bench
	bin/bench -only fate -cache "$(CACHE)" $(BENCH_FLAGS)

bin/console-stage: FORCE
	@mkdir -p bin
	@$(STATIC) $(GO) build $(SLIM) -o $@ ./test/console/stage

%/node_modules: %/package-lock.json
	cd $* && npm ci --no-audit --no-fund
	@touch $@

console-test: build bin/console-stage console/node_modules test/console/node_modules ## test the console with real parties, in Chromium
	test/testenv/dex/install.sh "$(CACHE)" || [ "$$HUTONG_REQUIRE_OIDC" != 1 ]
	cd test/console && npm run --silent check && DEX="$(CACHE)/bin/dex" npm run --silent test

console-load: build bin/console-stage console/node_modules test/console/node_modules ## measure the console with 100,000 jobs and 200 open pages
	cd test/console && npm run --silent check && LOAD=1 STAGE_FLAGS="-stored 100000" npm run --silent test

console-stage: build bin/console-stage ## start the parties and jobs of the console's tests, to look at its pages (ends with Ctrl-D)
	bin/console-stage

pictures: build bin/console-stage console/node_modules test/console/node_modules ## draw docs/*.png again, with Chromium
	$(GO) run $(SLIM) ./test/pictures
	cd test/console && STAGE_FLAGS="-stored 100 -tasks 20" PICTURES=$(CURDIR)/docs npm run --silent test

clean: ## remove the built programs
	rm -rf bin
