"""The account: what is known of it, and its end."""

import base64
import hmac
from functools import partial
from ipaddress import ip_address
from typing import Any

from exuvia.api import identifiers
from exuvia.portal.asking import Answer, Request, json, redirect
from exuvia.portal.showing import show
from exuvia.store import accounts
from exuvia.store.export import everything


async def account_page(request: Request) -> Answer:
    """GET /account."""
    return show(request, "account", account=request.account)


async def export_page(request: Request) -> Answer:
    """GET /account/export: all that is known, in words."""
    return show(request, "export", known=await _known(request))


async def export_file(request: Request) -> Answer:
    """GET /account/export.json: the same, as a file."""
    answer = json(await _known(request))
    disposition = (b"content-disposition", b'attachment; filename="exuvia-account.json"')
    return Answer(answer.status, answer.body, (*answer.headers, disposition))


async def cancel_page(request: Request) -> Answer:
    """GET /account/cancel: asks for the number, so that it is no accident, and no passer-by."""
    return show(request, "cancel", account=request.account, error="")


async def cancel(request: Request) -> Answer:
    """POST /account/cancel: nothing is left of it."""
    state, typed = request.state, request.form.get("account", "")
    typed_hash = state.control.hasher.account(typed) or b""
    if not hmac.compare_digest(typed_hash, request.known.number_hash):
        error = "This is not the number of this account. Type the one you logged in with."
        return show(request, "cancel", 422, account=request.account, error=error)
    id, hour = request.account.id, state.control.hour
    await state.control.store.writer.run(partial(accounts.cancel, id=id, hour=hour))
    state.sessions.end_of(request.known.number_hash)
    return redirect("/login?cancelled", state.site.set_cookie(None))


async def _known(request: Request) -> dict[str, object]:
    number_hash = request.known.number_hash
    found = await request.state.control.store.reader.run(
        lambda connection: everything(connection, number_hash)
    )
    worded = {
        "account": _worded(found["account"]),
        **{table: [_worded(row) for row in rows] for table, rows in found.items() if table != "account"},
    }
    return {**worded, "sessions": request.state.sessions.count_of(number_hash)}


def _worded(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the database as people and programs can read it."""
    return {name: _read(name, value) if isinstance(value, bytes) else value for name, value in row.items()}


def _read(name: str, value: bytes) -> str:
    if name == "id" or name.endswith("_id"):
        return identifiers.text(value)
    if name.startswith("address"):
        return str(ip_address(value))
    return base64.b64encode(value).decode()
