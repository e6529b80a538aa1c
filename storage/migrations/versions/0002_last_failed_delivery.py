"""The delivery whose attempt failed last, in the health of its subscription.

Revision ID: 0002
Revises: 0001
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE subscription_health ADD COLUMN last_failed_id uuid")
