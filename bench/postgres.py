"""A PostgreSQL server for measurements that need no stack: `python -m bench.postgres COMMAND …`.

Starts one as `loyalty-webhooks up` does, puts its address into TEST_POSTGRES_URL and runs the command, as in
`python -m bench.postgres python -m bench.emit_log`.
"""

import asyncio
import os
import sys

from bench.servers import data_directory, postgres


async def run(command: list[str]) -> int:
    """The command's exit status."""
    with data_directory("postgres") as directory:
        async with postgres(directory) as server:
            root = server.environment["BENCH_POSTGRES"].rpartition("/")[0]
            process = await asyncio.create_subprocess_exec(*command, env=os.environ | {"TEST_POSTGRES_URL": root})
            return await process.wait()


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit(__doc__)
    sys.exit(asyncio.run(run(sys.argv[1:])))
