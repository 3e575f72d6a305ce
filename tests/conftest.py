"""
Which tests run where.

tests/kernel, tests/kernel_client and tests/kernel_virtual need a kernel with WireGuard, and are left
out unless they are named: `tools/kernel -- .venv/bin/python -m pytest -p no:cacheprovider tests/kernel`,
and the same with `--virtual` for the last. `make test` runs everything where it belongs.
"""

import pytest
from hypothesis import HealthCheck, settings

# How long a test takes says nothing here: machines are busy.
settings.register_profile("exuvia", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("exuvia")

pytest.register_assert_rewrite("interface_contract")

collect_ignore = ["kernel", "kernel_client", "kernel_virtual"]
