"""The files that pages load."""

from exuvia.errors import NotFound
from exuvia.portal.asking import Answer, Request


async def file(request: Request) -> Answer:
    """GET /static/{name}."""
    compressed = b"gzip" in request.headers.get(b"accept-encoding", b"")
    found = request.state.pages.static.answer(request.path["name"], compressed=compressed)
    if found is None:
        raise NotFound("nothing is at this path")
    return found
