# `make demo` and `make test` are all the set-up there is.

PYTHON ?= python3

help:  ## show this list
	@sed -n 's/^\([a-z]*\):.*  ## \(.*\)/  make \1|\2/p' Makefile | column -t -s '|' -o '   ' 2>/dev/null || grep '  ## ' Makefile

demo: ready  ## see everything work on this machine, on real WireGuard, step by step (root; 5 minutes)
	.venv/bin/exuvia demo

test: develop  ## run every test, those of the gateway on a real kernel (the first time it is built: 4 minutes more)
	tools/test

check: develop  ## lint, format and types only
	tools/test check

bench: develop  ## run the benchmarks and print each figure beside that of a named peer
	tools/batch bench

soak: develop  ## run the long tests: thousands of kills, a virtual month, an hour of faults
	tools/batch soak

kernel:  ## build the kernel that tests run on, if it isn't there yet
	$(PYTHON) tools/kernel --build

deb: develop  ## build dist/exuvia_*.deb, to be installed on Debian 12
	.venv/bin/python tools/deb

web: develop  ## build what the portal's pages do in the browser, and check it
	.venv/bin/python tools/web types
	.venv/bin/python tools/web build

portraits: develop  ## take portraits of every page of the website, into docs/portal/
	.venv/bin/python tests/browser/portraits.py

pages: develop  ## write the pages of docs/ that say what the code says
	.venv/bin/python tools/pages

pins: develop  ## choose anew the versions of everything that is installed
	tools/pins

clean:  ## remove what was made here (the kernel stays in ~/.cache/exuvia)
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist web/node_modules web/.lock
	find src tests bench tools -name __pycache__ -prune -exec rm -rf {} +

ready:
	@$(PYTHON) tools/setup run

develop:
	@$(PYTHON) tools/setup develop

.PHONY: help demo test check bench soak kernel deb web portraits pages pins clean ready develop
.DEFAULT_GOAL := help
