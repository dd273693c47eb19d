"""What becomes of a request for a worker when the kernel has no process left."""

import asyncio
import os
import sys

import pytest

from marserve.errors import LoadFailed
from marserve.refs import ModelRef
from marserve.workers.supervisor import Supervisor

REF = ModelRef("m", "1")
FAILS_ONCE = """
import os
fork, tries = os.fork, []
def once():
    tries.append(1)
    if len(tries) == 1:
        raise BlockingIOError(11, "Resource temporarily unavailable")
    return fork()
os.fork = once
"""


def test_a_zygote_that_cannot_fork_says_so_and_forks_the_next_time(tmp_path):
    (tmp_path / "fails_once.py").write_text(FAILS_ONCE)

    async def scenario():
        supervisor = Supervisor(os.environ | {"PYTHONPATH": str(tmp_path)})
        try:
            with pytest.raises(LoadFailed, match="Resource temporarily unavailable"):
                await supervisor.spawn("1", REF, ("fails_once",), sys.executable)
            process = await supervisor.spawn("2", REF, ("fails_once",), sys.executable)
            process.channel.close()
            assert await process.exited == 0
        finally:
            await supervisor.close()

    asyncio.run(scenario())
