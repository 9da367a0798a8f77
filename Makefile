# Go and make are all that is needed; whatever else a target uses, Go fetches.

.DEFAULT_GOAL := help
.PHONY: help run test race not-run check generate module lexicons fuzz bench build interop compare crash relay app packaging peers cluster cluster-test deb

API ?= 0.21.0
FUZZTIME ?= 20s
ROUNDS ?= 3

help: ## say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Go's own flags for tests, and which packages: make test TESTFLAGS='-v -run Settings' PACKAGES=./db/...
TESTFLAGS ?=
PACKAGES ?= ./...

run: ## start a development server on http://localhost:2583, with its data in ./data
	@echo "compiling the server (minutes at first, seconds later); then it says where it listens"
	go run ./cmd/portico serve

# A busy machine of two cores is slow, and no test that is merely slow has failed. What
# vet says, make check asks; asking here as well costs minutes on a new machine.
GOTEST = go test -vet=off -timeout 30m $(TESTFLAGS)

# What tests cannot try on this machine is said last. They look in the same places.
NOT_RUN = set -- /usr/lib/postgresql/*/bin/initdb; test -x "$$1" || command -v initdb >/dev/null || \
		echo "NOT RUN: whatever is tested on Postgres. There is no initdb here, on PATH or under /usr/lib/postgresql"; \
	command -v redis-server >/dev/null || \
		echo "NOT RUN: whatever is tested on Redis. There is no redis-server on PATH"; \
	command -v pgbouncer >/dev/null || test -x /usr/sbin/pgbouncer || \
		echo "NOT RUN: whatever is tested on a pooler. There is no pgbouncer here, on PATH or in /usr/sbin"

test: ## run the tests
	@$(GOTEST) $(PACKAGES); status=$$?; $(NOT_RUN); exit $$status

# SQLite's memory is not Go's, and the race detector passes it over. To ask for each of its
# bytes whether it does takes two thirds of the time of a test, so that it is not asked there.
RACE = -race -gcflags='modernc.org/sqlite/lib=-race=false' -gcflags='modernc.org/libc/...=-race=false' -gcflags='modernc.org/memory=-race=false'

race: ## run the tests with the race detector (needs a C compiler)
	@CGO_ENABLED=1 $(GOTEST) $(RACE) $(PACKAGES); status=$$?; $(NOT_RUN); exit $$status

not-run:
	@$(NOT_RUN)

generate: ## write api/atproto anew from lexicons
	go tool lexgen generate

check: ## all that must hold before a change goes in: generated code, vet, staticcheck, tests
	@test -z "$$(gofmt -l .)" || { echo "not formatted:"; gofmt -l .; exit 1; }
	go tool lexgen check
	go vet -tags interop,crash,compare,relay,app,packaging,cluster,peers ./...
	go tool staticcheck -tags interop,crash,compare,relay,app,packaging,cluster,peers ./...
	@$(GOTEST) ./...; status=$$?; $(NOT_RUN); exit $$status

module: ## put the module under a path of your own, MODULE (example.com/you/portico)
	go run ./cmd/internal/modulepath "$(MODULE)"
	go tool lexgen generate

lexicons: ## bring lexicons/com/atproto to npm's @atproto/api, API (0.21.0)
	go tool lexgen upstream $(API)

bench: ## print the server's processor time per request, beside a floor server's, or BENCHFLAGS='-only refresh' (needs Linux)
	go run ./cmd/portico/bench $(BENCHFLAGS)

fuzz: ## run every fuzz target for FUZZTIME (20s)
	@for package in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz'); do \
			echo "$$package $$target"; \
			go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$package || exit 1; \
		done; \
	done

build: ## build one static binary, bin/portico
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.release=$$(git describe --tags --always --dirty 2>/dev/null)" -o bin/portico ./cmd/portico

# Who answers for the package and which version it is: make deb MAINTAINER='Ann <ann@example.com>' VERSION=1.2.3
VERSION = $(shell git describe --tags --always --dirty)
MAINTAINER = $(shell git log -1 --format='%cn <%ce>')

deb: build ## make a Debian package of bin/portico in dist, for another machine by GOARCH=arm64
	SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct)} CGO_ENABLED=0 GOOS= GOARCH= GOARM= \
		go run ./cmd/internal/deb -version "$(VERSION)" -maintainer "$(MAINTAINER)" bin/portico dist

interop: build ## run the official clients against bin/portico (needs Node 20 or newer, npm and Chromium)
	PORTICO_BINARY=$(CURDIR)/bin/portico go test -tags interop -count 1 -timeout 30m $(TESTFLAGS) ./cmd/portico/interop

compare: build ## hold bin/portico's answers against the reference PDS's (needs npm; the first time takes minutes)
	PORTICO_BINARY=$(CURDIR)/bin/portico go test -tags compare -count 1 -timeout 30m $(TESTFLAGS) ./cmd/portico/compare

crash: build ## kill the server in the midst of sign-ups and of writes, ROUNDS (3) times, and look for what is broken
	PORTICO_BINARY=$(CURDIR)/bin/portico go test -tags crash -count 1 -timeout 0 $(TESTFLAGS) ./cmd/portico/crash -rounds $(ROUNDS)

relay: build ## let indigo's relay and tap read bin/portico under load (the first time builds them, which takes minutes)
	PORTICO_BINARY=$(CURDIR)/bin/portico go test -tags relay -count 1 -timeout 20m $(TESTFLAGS) ./cmd/portico/relay

app: build ## let people use Bluesky's AppView through bin/portico (needs npm and Postgres; the first time takes minutes)
	PORTICO_BINARY=$(CURDIR)/bin/portico go test -tags app -count 1 -timeout 20m $(TESTFLAGS) ./cmd/portico/app

packaging: build ## try the units, proxies and packages of a machine that runs bin/portico (as root; needs Debian's caddy, nginx, haproxy, systemd-container, docker-compose, lintian, debootstrap, prometheus and logrotate)
	PORTICO_BINARY=$(CURDIR)/bin/portico go test -tags packaging -count 1 -timeout 30m $(TESTFLAGS) ./cmd/portico/packaging

peers: ## let ogen and oapi-codegen generate clients and servers of what openapi.json describes (Go fetches them)
	go test -vet=off -tags peers -count 1 -timeout 20m $(TESTFLAGS) -run "OtherGenerators|Codec" ./gen/openapi ./cmd/portico/bench

cluster: ## start three servers behind HAProxy on one machine, with Postgres and a standby, until ctrl-c (needs Linux; says which of Debian's packages it misses)
	go run ./cmd/portico/cluster

cluster-test: build ## kill each part of such a cluster in the midst of all that people do, or CLUSTERFLAGS='-only primary,s3', and look for what is broken
	PORTICO_BINARY=$(CURDIR)/bin/portico go test -tags cluster -count 1 -timeout 20m $(TESTFLAGS) ./cmd/portico/cluster $(CLUSTERFLAGS)
