"""How a page is shown to whoever asks: with its navigation, its notice, and the token of its forms."""

from typing import Any

from exuvia.portal.asking import Answer, Request


def show(request: Request, template: str, status: int = 200, **values: Any) -> Answer:
    """Return a page for this request."""
    session = request.session
    return request.state.pages.answer(
        template,
        status,
        csrf=session.csrf if session else "",
        notice=session.taken_notice() if session else "",
        is_holder=session is not None and session.is_complete,
        **values,
    )
