"""The pictures and the sound of an item, each at an address of its own."""

from __future__ import annotations

from collections.abc import Callable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cloud_node.console.item import PATH, load
from cloud_node.console.scene import Scene, read_scene
from cloud_node.console.site import Site, item_of

_KEPT = {"cache-control": "private, max-age=3600"}


def routes(site: Site) -> list[Route]:
    """`heat.png`, `crop.png` and `sound.wav` under an item's address."""

    def part(name: str, kind: str, of: Callable[[Scene], bytes | None]) -> Route:
        def show(request: Request) -> Response:
            loaded = load(site.backing.reader, item_of(request))
            content = of(read_scene(loaded.record.outcome, site.backing.profiles, loaded.fault))
            if content is None:
                raise HTTPException(404, f"there is no {name} of this item")
            return Response(content, media_type=kind, headers=_KEPT)

        return Route(f"{PATH}/{name}", show)

    return [
        part("heat.png", "image/png", lambda scene: scene.heat),
        part("crop.png", "image/png", lambda scene: scene.crop),
        part("sound.wav", "audio/wav", lambda scene: scene.sound),
    ]
