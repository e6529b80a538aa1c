"""Authentication of subscriptions and of draft tests, and the expiry of client certificates.

Revision ID: 0005
Revises: 0004
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE subscription ADD COLUMN sealed_authentication bytea")
    op.execute("ALTER TABLE subscription ADD COLUMN certificate_expires_at timestamptz")
    op.execute("ALTER TABLE draft_test ADD COLUMN sealed_authentication bytea")
