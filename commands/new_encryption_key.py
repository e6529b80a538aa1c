"""`loyalty-webhooks new-encryption-key`: generate a key for ENCRYPTION_KEYS."""

import typer
from cryptography.fernet import Fernet


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("new-encryption-key")(new_encryption_key)


def new_encryption_key() -> None:
    """Print a new key for ENCRYPTION_KEYS, which encrypts the secrets in the database. Keep a copy of it."""
    typer.echo(Fernet.generate_key().decode())
