"""The table of pages: what is asked, by whom, and who answers."""

from exuvia.api.routes import Router
from exuvia.portal import account, devices, entry, keys, static
from exuvia.portal.asking import Page, Who

PAGES = (
    Page("GET", "/", Who.ANYBODY, entry.home),
    Page("GET", "/login", Who.ANYBODY, entry.login_page),
    Page("POST", "/login", Who.ANYBODY, entry.log_in),
    Page("POST", "/logout", Who.ANYBODY, entry.log_out),
    Page("GET", "/devices/new", Who.HOLDER, keys.new_page),
    Page("POST", "/devices/new", Who.HOLDER, keys.add),
    Page("GET", "/devices/delete-all", Who.HOLDER, devices.delete_all_page),
    Page("POST", "/devices/delete-all", Who.HOLDER, devices.delete_all),
    Page("GET", "/devices/{id}", Who.HOLDER, devices.device_page),
    Page("GET", "/devices/{id}/replace", Who.HOLDER, keys.replace_page),
    Page("POST", "/devices/{id}/replace", Who.HOLDER, keys.replace),
    Page("GET", "/devices/{id}/delete", Who.HOLDER, devices.delete_page),
    Page("POST", "/devices/{id}/delete", Who.HOLDER, devices.delete),
    Page("GET", "/gateways", Who.HOLDER, devices.gateways_page),
    Page("GET", "/account", Who.HOLDER, account.account_page),
    Page("GET", "/account/export", Who.HOLDER, account.export_page),
    Page("GET", "/account/export.json", Who.HOLDER, account.export_file),
    Page("GET", "/account/cancel", Who.HOLDER, account.cancel_page),
    Page("POST", "/account/cancel", Who.HOLDER, account.cancel),
    Page("GET", "/static/{name}", Who.ANYBODY, static.file),
)


def router() -> Router[Page]:
    """Return the router of the website."""
    return Router(PAGES)
