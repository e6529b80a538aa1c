"""The product that is measured: of this checkout or of another one, with settings of its own."""

import argparse
import shlex
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path

from bench.servers import Certificate
from bench.stack import PROGRAM, Bench, bench_stack
from settings import Settings

KNOWN = {name.upper() for name in Settings.model_fields}


@dataclass(frozen=True)
class Side:
    """The program of a checkout, and settings beside those of the stack."""

    text: str = "as it is"
    program: Path = PROGRAM
    settings: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> "Side":
        """Read `FOLDER NAME=value …`, every part of it optional. Raises ArgumentTypeError with what is wrong."""
        program, settings = PROGRAM, {}
        for part in shlex.split(text):
            name, separator, value = part.partition("=")
            if not separator:
                program = (Path(part) / ".venv/bin" / PROGRAM.name).absolute()
                if not program.exists():
                    raise argparse.ArgumentTypeError(f"{part} has no environment: {program} is missing")
            elif not value:
                raise argparse.ArgumentTypeError(f"{name} has no value: write NAME=value")
            else:
                settings[name] = value
        unknown = [name for name in settings if name not in KNOWN]
        if unknown and program == PROGRAM:
            raise argparse.ArgumentTypeError(f"{unknown[0]} is no setting of docs/settings.md")
        return cls(text or "as it is", program, settings)

    def stack(
        self, settings: Mapping[str, str] | None = None, *, certificate: Certificate | None = None
    ) -> AbstractAsyncContextManager[Bench]:
        """A stack of this side; its own settings win over these. With a certificate its receiver speaks HTTPS."""
        return bench_stack(dict(settings or {}) | self.settings, self.program, certificate=certificate)


def add_side_argument(parser: argparse.ArgumentParser) -> None:
    """The option of a measurement that looks at one side."""
    parser.add_argument(
        "--of",
        type=Side.parse,
        default=Side(),
        metavar="SIDE",
        help="folder of another checkout, NAME=value …, or both",
    )
