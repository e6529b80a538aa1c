"""The first tables.

Revision ID: 0001
Revises:
"""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = Path(__file__).with_suffix(".sql").read_text()


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        op.execute(statement)
