"""The table of pages: what is asked, by whom, and who answers."""

from exuvia.api.routes import Router
from exuvia.portal import account, devices, entry, keys, second_factor, setting_up, static
from exuvia.portal.asking import Page, Who

PAGES = (
    Page("GET", "/", Who.ANYBODY, entry.home),
    Page("GET", "/login", Who.ANYBODY, entry.login_page),
    Page("POST", "/login", Who.ANYBODY, entry.log_in),
    Page("POST", "/logout", Who.ANYBODY, entry.log_out),
    Page("GET", "/login/second-factor", Who.NUMBER_GIVEN, second_factor.page),
    Page("POST", "/login/second-factor", Who.NUMBER_GIVEN, second_factor.give_code),
    Page("POST", "/login/passkey/options", Who.NUMBER_GIVEN, second_factor.passkey_options),
    Page("POST", "/login/passkey/verify", Who.NUMBER_GIVEN, second_factor.give_passkey),
    Page("GET", "/devices/new", Who.HOLDER, keys.new_page),
    Page("POST", "/devices/new", Who.HOLDER, keys.add),
    Page("POST", "/devices/code", Who.HOLDER, devices.device_code),
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
    Page("GET", "/account/second-factor", Who.HOLDER, setting_up.page),
    Page("GET", "/account/second-factor/code", Who.HOLDER, setting_up.code_page),
    Page("POST", "/account/second-factor/code", Who.HOLDER, setting_up.add_code),
    Page("POST", "/account/second-factor/passkey/options", Who.HOLDER, setting_up.passkey_options),
    Page("POST", "/account/second-factor/passkey/verify", Who.HOLDER, setting_up.add_passkey),
    Page("GET", "/account/second-factor/{id}/remove", Who.HOLDER, setting_up.remove_page),
    Page("POST", "/account/second-factor/{id}/remove", Who.HOLDER, setting_up.remove),
    Page("GET", "/static/{name}", Who.ANYBODY, static.file),
)


def router() -> Router[Page]:
    """Return the router of the website."""
    return Router(PAGES)
