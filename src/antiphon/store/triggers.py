"""The triggers, word for word as they are in the file: what happens whoever writes (R-59).

Rules
1. What the version before must do without knowing of it is a trigger, too (R-74).
2. A migration that copies a table (a batch of Alembic's) must make its triggers anew.
"""

from typing import Final

#: By name.
TRIGGERS: Final = {
    "responses_deleted": (
        "CREATE TRIGGER responses_deleted AFTER UPDATE OF deleted ON responses"
        " WHEN NEW.deleted = 1 AND OLD.deleted = 0"
        " BEGIN UPDATE removals SET number = number + 1;"
        " UPDATE responses SET metadata = NULL WHERE id = NEW.id AND metadata IS NOT NULL;"
        " DELETE FROM response_metadata WHERE response_id = NEW.id; END"
    ),
    "responses_dropped": (
        "CREATE TRIGGER responses_dropped AFTER DELETE ON responses"
        " BEGIN DELETE FROM response_metadata WHERE response_id = OLD.id; END"
    ),
    "told_of_deleted_response": (
        "CREATE TRIGGER told_of_deleted_response AFTER UPDATE OF deleted ON responses"
        " WHEN NEW.deleted = 1 AND OLD.deleted = 0 AND NEW.told IS NOT NULL"
        " BEGIN UPDATE responses SET told = NULL WHERE id = NEW.id; END"
    ),
    "files_dropped": (
        "CREATE TRIGGER files_dropped AFTER DELETE ON files"
        " BEGIN DELETE FROM vector_store_files WHERE file_id = OLD.id; END"
    ),
    "vector_store_files_dropped": (
        "CREATE TRIGGER vector_store_files_dropped AFTER DELETE ON vector_store_files"
        " WHEN EXISTS (SELECT 1 FROM vector_stores WHERE id = OLD.store_id)"
        " BEGIN UPDATE vector_stores SET version = version + 1, removed = version + 1,"
        " file_count = file_count - 1 WHERE id = OLD.store_id;"
        " INSERT INTO index_leftovers (store_id, number) VALUES (OLD.store_id, OLD.number); END"
    ),
    "vector_stores_dropped": (
        "CREATE TRIGGER vector_stores_dropped AFTER DELETE ON vector_stores"
        " BEGIN INSERT INTO index_leftovers (store_id, number) VALUES (OLD.id, NULL); END"
    ),
    "images_of_deleted_response": (
        "CREATE TRIGGER images_of_deleted_response AFTER UPDATE OF deleted ON responses"
        " WHEN NEW.deleted = 1 AND OLD.deleted = 0"
        " BEGIN UPDATE images SET check_at = 0 WHERE response_id = NEW.id; END"
    ),
    "images_of_dropped_response": (
        "CREATE TRIGGER images_of_dropped_response AFTER DELETE ON responses"
        " BEGIN UPDATE images SET check_at = 0 WHERE response_id = OLD.id; END"
    ),
    "images_of_conversation": (
        "CREATE TRIGGER images_of_conversation AFTER DELETE ON conversations"
        " BEGIN UPDATE images SET check_at = 0 WHERE conversation_id = OLD.id; END"
    ),
}
