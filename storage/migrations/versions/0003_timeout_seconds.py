"""The timeout of requests of a subscription.

Revision ID: 0003
Revises: 0002
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE subscription ADD COLUMN timeout_seconds integer")
    op.execute("ALTER TABLE draft_test ADD COLUMN timeout_seconds integer")
