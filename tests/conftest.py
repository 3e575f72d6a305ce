"""
Which tests run where.

tests/kernel and tests/kernel_virtual need a kernel with WireGuard, and are left out unless they
are named: `tools/kernel -- .venv/bin/python -m pytest -p no:cacheprovider tests/kernel`, and the
same with `--virtual` for the other. `make test` runs everything where it belongs.
"""

import pytest

pytest.register_assert_rewrite("interface_contract")

collect_ignore = ["kernel", "kernel_virtual"]
