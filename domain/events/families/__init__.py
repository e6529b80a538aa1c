"""One module per family of events; each event is an `EventType` there and nowhere else (see docs/add-an-event.md)."""
