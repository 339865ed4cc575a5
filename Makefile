# Vita in Go. `make help` lists the targets.
SHELL := /bin/bash
GO ?= go
LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
PROGRAMS := vitad vita-engine vitactl
# Of the appliance's image: what is committed decides both, so that it can be built again.
VERSION ?= 0.1.$(shell git rev-list --count HEAD 2>/dev/null || echo 0)
EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 1735689600)
GOFLAGS_BUILD := -trimpath -ldflags '-s -w'

.DEFAULT_GOAL := build
.PHONY: help build image image-pin image-test package demo test check fmt lint generate generate-check race fuzz pgo bench soak clean setup

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  %-16s %s\n", $$1, $$2}'

build: ## the programs, into build/
	@mkdir -p build
	CGO_ENABLED=0 $(GO) build $(GOFLAGS_BUILD) -o build/ $(PROGRAMS:%=./cmd/%)

image: ## the appliance, into build/image: vita.raw and vita.qcow2
	$(GO) run ./appliance-image/build -out build/image -version $(VERSION) -epoch $(EPOCH)

image-pin: ## which Debian packages the image is made of, anew
	$(GO) run ./appliance-image/build -pin

image-test: setup build image ## all tests of the appliance, in virtual machines
	$(GO) test -timeout 3h -count 1 -v ./appliance-image/test -cuts 50

package: ## a Debian package of the programs, into build/image
	$(GO) run ./appliance-image/build -deb -out build/image -version $(VERSION) -epoch $(EPOCH)

setup: ## installs what demo and test need (Debian packages; needs root once)
	@test/setup.sh

demo: setup build ## two gateways on this machine, configured, forwarding, rekeyed, restarted (needs root)
	$(GO) run ./test/demo -build build -json build/demo.json

test: export CI = 1# so that nothing is skipped for want of a peer
test: setup build image lint generate-check ## everything that must pass before a change lands (needs root)
	$(GO) test -timeout 20m $(shell $(GO) list ./... | grep -vE '/(test/(e2e|qemu|interop)|appliance-image/test)')
	$(GO) test -timeout 20m -count 1 -run TestMutatedFrames ./forwarding -frames 10000000
	$(GO) test -timeout 20m -count 1 -run TestEveryLength ./asm/aesgcm -whole
	$(GO) test -timeout 20m -count 1 -run TestUpdatesAgainstLinearScan ./asm/lpm -updates 1000000
	$(GO) test -timeout 20m -count 1 -run TestReference ./mgmt/internal/edit -edits 100000
	$(GO) test -timeout 20m -count 1 -run 'TestEveryConstruct|TestOwnModels' ./mgmt/validate -documents 5000
	$(GO) test -timeout 20m -count 1 -p 1 ./test/e2e ./test/qemu/... ./test/interop/...
	$(GO) test -timeout 40m -count 1 ./appliance-image/test
	$(MAKE) race

check: ## the quick loop: build, vet and the tests that need no root and no peer
	$(GO) build ./... && $(GO) vet ./... && $(GO) test $(shell $(GO) list ./... | grep -vE '/(appliance-image/test|test/(e2e|mgmt|(qemu|interop)(/.+)?)|drivers/(afxdp|afpacket|drivertest/onqemu)|internal/(testnet|logring/onveth))$$')

fmt: ## formats all Go files
	$(GO) run $(LINT) fmt

lint: ## golangci-lint and the layering test
	$(GO) test -run TestLayering .
	$(GO) run $(LINT) run

generate: ## writes the generated files anew
	$(GO) generate ./...

generate-check: ## fails where a generated file is not what its generator writes
	@test/generate-check.sh

race: ## the concurrent packages under the race detector
	$(GO) test -race -timeout 15m ./mgmt/... ./keying/... ./forwarding/... ./asm/lpm ./test/golden

fuzz: ## every fuzz target for FUZZTIME each (default 20s)
	@test/fuzz.sh $${FUZZTIME:-20s}

soak: setup build ## what takes hours: 10^8 damaged frames, an hour of fuzzing whole paths, a simulated year of rekeys, floods, 10 000 routes between two gateways (needs root)
	$(GO) test -count 1 -timeout 1h -v -run TestMutatedFrames ./forwarding -frames 100000000
	$(GO) test -run '^$$' -fuzz '^FuzzPaths$$' -fuzztime 1h -fuzzminimizetime 50x ./forwarding
	$(GO) test -count 1 -timeout 6h -v -run 'TestYear|TestHours|TestManyRoutesComeBack|TestFlood' ./keying/keeper -soak
	$(GO) test -count 1 -timeout 1h -v -run 'TestManyRoutes$$|TestFlood' ./test/e2e -routes 10000 -flood 1000000

pgo: ## the profile by which the packet path is compiled, anew (after changes of the path)
	$(GO) run ./test/perf/pgo

bench: ## the packet path, measured (docs/performance.md)
	@test/perf/bench.sh

clean: ## removes build/
	rm -rf build
