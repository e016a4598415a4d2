"""Lists of stored responses in memory (`store.base.responses`)."""

from collections.abc import Iterable

import orjson

from antiphon.store.base import Listing, Page, ResponseRow


def listed(rows: Iterable[ResponseRow], listing: Listing) -> Page | None:
    """See `Responses.listed`; `rows` are all that may be listed, as they came: the order within a
    second."""
    ordered = sorted(rows, key=lambda row: row.created_at)
    if listing.order == "desc":
        ordered.reverse()
    if listing.after is not None:
        ids = [row.id for row in ordered]
        if listing.after not in ids:
            return None
        ordered = ordered[ids.index(listing.after) + 1 :]
    found = ((row.id, row.body) for row in ordered if _has(row, listing.metadata))
    return Page.of(found, listing)


def _has(row: ResponseRow, wanted: dict[str, str]) -> bool:
    if not wanted:
        return True
    metadata: dict[str, str] = orjson.loads(row.metadata) if row.metadata is not None else {}
    return wanted.items() <= metadata.items()
