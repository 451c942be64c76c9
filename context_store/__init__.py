"""A memory on Redis or Valkey: streams read by cuts, state committed under a lease.

It knows nothing of what it keeps. Fields are bytes, names are the caller's.

**Entries.** Writers append; the store's clock gives the ids, and so all writers share one time
base. A writer stamps each entry with its boot id, a sequence number and the age of the content by
its own monotonic clock: `at_ms = ms - age_ms`. An append whose reply was lost is sent again under
the same boot and sequence; readers drop the repetition.

**Cuts.** A reader asks for everything below the store's `now`. That set is complete and never
changes: a cut is reproduced by its `now` alone (reader.py says why).

**Leases.** One holder at a time, each under an epoch that only ever rises. A commit names its
lease's epoch and does nothing once a newer one exists. The lease saves work, the epoch keeps the
promise: clocks may be wrong (lease.py).

**Commits.** State fields and entries are written in one transaction, all or nothing, under WATCH on
the epoch and on the state. A marker field makes it idempotent: an unknown outcome is settled by
calling again with the same arguments.

**Failures.** Three kinds, by what the caller can do (errors.py). The client library never sends a
command twice on its own.

**What is promised depends on the server.** It must not evict (refused otherwise), it should keep an
append-only file with `appendfsync always` (redis.conf): with less, a power failure loses the last
second, and with it possibly an epoch. `EmbeddedServer` starts one as a child of this process.

| key, below the prefix | content |
|---|---|
| NAME | a stream, or a plain value of `put` |
| `state` | the hash of `commit` |
| `lease:NAME`, `epoch:NAME` | see lease.py |
"""

from .embedded import EmbeddedServer
from .entries import Append, Cut, Entry, Lease, Reach, Retention, ServerFacts, Stamp
from .errors import StoreFull, StoreRefused, StoreUnavailable
from .reader import Reader
from .store import Store

__all__ = [
    "Append",
    "Cut",
    "EmbeddedServer",
    "Entry",
    "Lease",
    "Reach",
    "Reader",
    "Retention",
    "ServerFacts",
    "Stamp",
    "Store",
    "StoreFull",
    "StoreRefused",
    "StoreUnavailable",
]
