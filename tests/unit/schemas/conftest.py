import duckdb
import pytest
from hypothesis import settings

settings.register_profile("schemas", deadline=None, max_examples=50)
settings.load_profile("schemas")


@pytest.fixture(scope="session")
def engine():
    with duckdb.connect(":memory:") as connection:
        yield connection
