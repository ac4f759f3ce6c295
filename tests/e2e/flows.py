"""What the workers of these tests run."""

from contextlib import asynccontextmanager

import trio

from pgflow_events import Context, Flow

PAGE = "<p>" + "long and winding, " * 100_000

pages = Flow("pages", max_attempts=2, base_delay=0)


@pages.step(pages.input)
async def website(run: dict) -> str:
    return PAGE


@pages.step(website)
def title(page: str) -> str:
    return page[:7]


@pages.step(pages.input, title)
async def check(run: dict, text: str) -> dict:
    if "fault" in run:
        raise ValueError(f"{run['fault']} [bold]\x1b[31m\nand more of it")
    return {"title": text}


# It asks at a door, a socket of the test's, what to return: so the test knows when it runs.
patient = Flow("patient", timeout=60)
hasty = Flow("hasty", timeout=1)


async def ask(context: Context, run: dict) -> str:
    context.log.info("asking")
    async with await trio.open_unix_socket(run["door"]) as door:
        return (await door.receive_some()).decode()


patient.step(patient.context, patient.input)(ask)
hasty.step(hasty.context, hasty.input)(ask)

raw = Flow("raw")


@raw.step(raw.context)
async def key(context: Context) -> bytes:
    return context.resources["key"]


@asynccontextmanager
async def resources():
    yield {"key": b"\x00\xff"}
