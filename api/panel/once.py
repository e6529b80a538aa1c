"""Single use of forms that create a key. A second click or a reload would replace the key that was just shown."""

from hashlib import sha256
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from api.errors import Conflict
from api.panel.page import Page
from api.panel.texts import t
from storage.access.idempotency import claim_key

FIELD = "formId"
"""Field with the id of one rendered form (`macros.html`). The id is stored longer than a session, and so any form,
lasts."""


async def take_once(page: Page, connection: AsyncConnection) -> None:
    """Use up the form in the transaction that performs it. Raises Conflict if it was used before."""
    try:
        form_id = UUID(page.form.text(FIELD))
    except ValueError:
        raise Conflict(t("frame.form_unnamed")) from None
    sender = f"{page.principal.kind}:{page.principal.id}"
    digest = sha256(page.route.name.encode()).digest()
    if await claim_key(connection, page.store_code, sender, f"form {form_id}", digest, form_id) is not None:
        raise Conflict(t("frame.form_taken"))
