"""Every test here that asks for `table` runs once for each kernel table."""

import pytest

from kernels import core_api
from kernels.calls import Table


def pytest_generate_tests(metafunc):
    if "table" in metafunc.fixturenames:
        metafunc.parametrize("table", core_api.table_names(), indirect=True)


@pytest.fixture(scope="session")
def core():
    """The core as a shared library."""
    return core_api.load()


@pytest.fixture
def table(core, request):
    """The layer functions of one kernel table."""
    return Table(core, request.param)
