"""Writes the golden files anew. Read the difference before committing it: receivers parse these bytes."""

from domain.events.catalogue import CATALOGUE
from tests.goldens.files import FOLDER, path_of, text_of

for stale in set(FOLDER.glob("*.json")) - {path_of(event_type) for event_type in CATALOGUE.values()}:
    stale.unlink()
for event_type in CATALOGUE.values():
    path_of(event_type).write_bytes(text_of(event_type))
print(f"{len(CATALOGUE)} files written to {FOLDER}")
