"""
Take a portrait of every page of the website: light and dark, on a phone and on a desk, into docs/portal/.

    make portraits

Keys, names and addresses are made up anew each time, so every portrait changes; commit them when pages did.
"""

import io
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests/browser")]

import tour  # noqa: E402
from browsing import Visitor, launch, visiting  # noqa: E402
from PIL import Image  # noqa: E402
from playwright.sync_api import sync_playwright  # noqa: E402

from control_plane import Server, honest_key, server_in  # noqa: E402
from exuvia.messages import EnrollGateway, GatewayEnrolled  # noqa: E402

INTO = ROOT / "docs/portal"
SIZES = {"phone": {"width": 390, "height": 844}, "desk": {"width": 1280, "height": 800}}
COLOURS = 48
PLACES = (("se1", "SE", "Malmö"), ("nl1", "NL", "Amsterdam"), ("us1", "US", "New York"))

TEXT = """# What the portal looks like

Every page in every state that looks different, as Chromium shows it on a phone (390 pixels) and on a desk
(1280), light and dark. `make portraits` takes them anew; keys, names and addresses are made up.

"""


def main() -> None:
    """Take all portraits, and write the page that shows them."""
    INTO.mkdir(exist_ok=True)
    for old in INTO.glob("*.png"):
        old.unlink()
    names: list[str] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        server_in(Path(folder), "--unproven-keys", "allow") as server,
    ):
        enroll(server)
        with sync_playwright() as playwright:
            browser = launch(playwright, "chromium", Path(folder))
            with visiting(
                browser, f"http://localhost:{server.url.rpartition(':')[2]}", Path(folder)
            ) as visitor:
                for name in tour.pages(visitor, server, server.account(devices=3)):
                    names.append(name)
                    take(visitor, name)
            browser.close()
    (INTO / "README.md").write_text(TEXT + "\n".join(map(section, names)))


def enroll(server: Server) -> None:
    """Give the server gateways as an operator might have them."""
    for number, (name, country, city) in enumerate(PLACES, 1):
        wanted = EnrollGateway(name, f"{name}.example.net:51820", country, city, f"10.64.0.{number}")
        token = server.operator.ask("POST", "/v1/admin/gateways", wanted, gives=GatewayEnrolled).token
        hello = {"public_key": honest_key(), "lasting": True}
        server.ask("PUT", "/v1/gateway", bearer=token, body=hello)


def take(visitor: Visitor, name: str) -> None:
    """Take the portraits of the page where the visitor is."""
    for size, viewport in SIZES.items():
        visitor.page.set_viewport_size(viewport)  # type: ignore[arg-type]
        for scheme in ("light", "dark"):
            visitor.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            picture = Image.open(io.BytesIO(visitor.page.screenshot(full_page=True)))
            few = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
            few.save(INTO / f"{name}-{size}-{scheme}.png", optimize=True)


def section(name: str) -> str:
    """Return what the page of portraits says of one page."""
    pictures = [
        f'<img src="{name}-{size}-{scheme}.png" width="{width}" alt="{name}, {size}, {scheme}">'
        for size, width in (("desk", 400), ("phone", 140))
        for scheme in ("light", "dark")
    ]
    return f"## {name}\n\n" + "\n".join(pictures) + "\n"


if __name__ == "__main__":
    main()
