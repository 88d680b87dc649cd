import pytest

from infra.warehouse import open_warehouse


@pytest.fixture(params=["duckdb"])
def url(request, tmp_path):
    match request.param:
        case "duckdb":
            return f"duckdb://{tmp_path}/warehouse.duckdb"


@pytest.fixture
async def connect(url):
    """Open warehouses on the same data, as separate workers do."""
    opened = []

    def build():
        opened.append(open_warehouse(url))
        return opened[-1]

    yield build
    for warehouse in opened:
        await warehouse.close()


@pytest.fixture
def warehouse(connect):
    return connect()
