"""The statements on conversations and their items; parameters by name (store/statements.py).

Rules
1. Each names the project (R-29), but those that run after one that did, in the same step of the
   writer or question of a reader. An item is looked for in its project only: what others have does
   not show in the time that it takes.
2. A version is never smaller than the number of an item: it counts what came and what went.
"""

from typing import Final

from sqlalchemy import bindparam, delete, insert, literal_column, select, update
from sqlalchemy.sql.elements import ColumnElement

from antiphon.store.statements import IS_RUNNING, compiled
from antiphon.store.tables import conversation_items, conversations, responses

_CONVERSATION: Final = conversations.c
_ITEM: Final = conversation_items.c
_ROW: Final = responses.c
_MINE: Final = (_CONVERSATION.id == bindparam("id")) & (
    _CONVERSATION.project == bindparam("project")
)
_NAMED: Final = (_ITEM.project == bindparam("project")) & (_ITEM.item_id == bindparam("item_id"))
_ONE: Final[ColumnElement[int]] = literal_column("1")

ADD: Final = compiled(
    insert(conversations).values({c.name: bindparam(c.name) for c in _CONVERSATION})
)

GET: Final = compiled(select(_CONVERSATION.created_at, _CONVERSATION.metadata).where(_MINE))

CHANGE: Final = compiled(update(conversations).where(_MINE).values(metadata=bindparam("new")))

DELETE: Final = compiled(delete(conversations).where(_MINE))

DELETE_ITEMS: Final = compiled(
    delete(conversation_items).where(_ITEM.conversation_id == bindparam("id"))
)

VERSION: Final = compiled(select(_CONVERSATION.version).where(_MINE))

#: A response of it runs.
BUSY: Final = compiled(
    select(_ONE)
    .select_from(responses)
    .where(_ROW.conversation == bindparam("id"), IS_RUNNING, _ROW.deleted == literal_column("0"))
    .limit(_ONE)
    .offset(literal_column("0"))
)

PUT: Final = compiled(insert(conversation_items).values({c.name: bindparam(c.name) for c in _ITEM}))

REMOVE: Final = compiled(
    delete(conversation_items).where(_NAMED, _ITEM.conversation_id == bindparam("id"))
)

BUMP: Final = compiled(
    update(conversations)
    .where(_CONVERSATION.id == bindparam("id_"))
    .values(version=bindparam("version"))
)

#: The items numbered above :after. One row, with no item, where there are none.
HISTORY: Final = compiled(
    select(_CONVERSATION.version, _ITEM.item, _ITEM.told)
    .outerjoin(
        conversation_items,
        (_ITEM.conversation_id == _CONVERSATION.id) & (_ITEM.number > bindparam("after")),
    )
    .where(_MINE)
    .order_by(_ITEM.number)
)

#: Its number and the item.
ITEM: Final = compiled(
    select(_ITEM.number, _ITEM.item).where(_NAMED, _ITEM.conversation_id == bindparam("id"))
)


def _page(behind: ColumnElement[bool], order: ColumnElement[int]) -> str:
    return compiled(
        select(_ITEM.item)
        .where(_ITEM.conversation_id == bindparam("id"), behind)
        .order_by(order)
        .limit(bindparam("limit"))
        .offset(literal_column("0"))
    )


#: What stands behind the number :after, by the order.
PAGES: Final = {
    "asc": _page(_ITEM.number > bindparam("after"), _ITEM.number.asc()),
    "desc": _page(_ITEM.number < bindparam("after"), _ITEM.number.desc()),
}

#: An item with this id in any conversation of the project.
FIND: Final = compiled(
    select(_ITEM.item, _ITEM.told)
    .where(_NAMED)
    .order_by(_ITEM.conversation_id)
    .limit(_ONE)
    .offset(literal_column("0"))
)
