"""The command `loyalty-webhooks`: the command families of `commands/`, put together."""

import typer

from commands import admin, api, down, emit, listen, migrate, new_encryption_key, status, up, worker

app = typer.Typer(
    name="loyalty-webhooks",
    help="Durable webhook delivery for loyalty programmes.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,  # locals hold secrets
    context_settings={"help_option_names": ["-h", "--help"]},
)

# Each family registers its commands; the order is that of `--help`.
FAMILIES = (up, down, status, emit, listen, api, worker, migrate, admin, new_encryption_key)
for family in FAMILIES:
    family.register(app)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
