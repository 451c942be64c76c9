import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from context_store import Store
from store import servers
from store.proxy import Proxy

_prefixes = itertools.count()


@pytest.fixture(scope="session", params=servers.KINDS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[servers.Server]:
    """One server of each kind for all tests that leave it as it was."""
    started = servers.start(request.param, tmp_path_factory.mktemp(request.param))
    yield started
    started.stop()


@pytest.fixture(params=servers.KINDS)
def own_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[servers.Server]:
    """A server of each kind for one test, which may kill it."""
    started = servers.start(request.param, tmp_path)
    yield started
    started.stop()


@pytest.fixture
def prefix() -> str:
    return f"t{next(_prefixes)}:"


Connect = Callable[..., Store]


@pytest.fixture
def connect(prefix: str) -> Iterator[Connect]:
    """Connect to a URL, below this test's own prefix."""
    stores: list[Store] = []

    def connect_to(url: str, **options: float) -> Store:
        stores.append(
            Store.connect(
                url, monotonic=time.monotonic, prefix=prefix, timeout_s=options.get("timeout_s", 5)
            )
        )
        return stores[-1]

    yield connect_to
    for store in stores:
        store.close()


@pytest.fixture
def store(server: servers.Server, connect: Connect) -> Store:
    return connect(server.url)


@pytest.fixture
def proxy(server: servers.Server) -> Iterator[Proxy]:
    running = Proxy(server.url)
    yield running
    running.close()
