"""The page around neuroglancer: a slider for the threshold, and what is known of segments. Imported late.

It is served by neuroglancer's own server, from the same port, so that one tunnel is enough.
"""

import json
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any, Protocol
from weakref import WeakSet

import tornado.web
from neuroglancer import server


class Shown(Protocol):
    """What the page shows and changes."""

    def state(self) -> Mapping[str, Any]:
        """All that the page shows, as plain data."""

    def set_threshold(self, threshold: float) -> None:
        """Cut the merge tree at another threshold."""

    def show_fragments(self, segment: int) -> None:
        """Show the fragments of a segment."""


#: What is shown, by the secret of its viewer: who does not know it finds no page.
_shown: dict[str, Shown] = {}

#: Servers that know of the page.
_servers: "WeakSet[server.Server]" = WeakSet()


def serve(token: str, shown: Shown) -> str:
    """Serve the page of a viewer, until `close`.

    Parameters
    ----------
    token
        Secret of the viewer.
    shown
        What is shown.

    Returns
    -------
    str
        URL of the page.
    """
    server.start()
    running = server.global_server
    if running not in _servers:
        _servers.add(running)
        # Of neuroglancer's server, which has its own thread.
        running.loop.call_soon_threadsafe(running.app.add_handlers, ".*", [(_PLACE, _Handler)])
    _shown[token] = shown
    return f"{server.get_server_url()}/lsd-dask/{token}/"


def close(token: str) -> None:
    """Serve the page of a viewer no longer."""
    _shown.pop(token, None)


_PLACE = r"/lsd-dask/(?P<token>[^/]+)/(?P<name>[a-z]*)"

_ACTIONS: Mapping[str, Callable[[Shown, Any], None]] = {
    "threshold": lambda shown, value: shown.set_threshold(float(value)),
    "fragments": lambda shown, value: shown.show_fragments(int(value)),
}


class _Handler(tornado.web.RequestHandler):
    def get(self, token: str, name: str) -> None:
        if token not in _shown or name not in ("", "state"):
            self.send_error(404)
        elif name == "state":
            self._answer(token)
        else:
            text = (resources.files("lsd_dask.viewer") / "page.html").read_text("utf-8")
            self.set_header("Content-Type", "text/html; charset=utf-8")
            self.finish(text.replace("{{token}}", token))

    async def post(self, token: str, name: str) -> None:
        if token not in _shown or name not in _ACTIONS:
            self.send_error(404)
            return
        running = server.global_server
        try:
            value = json.loads(self.request.body)
            # Cutting a tree of many millions of fragments takes a while, in which chunks are to be served.
            await running.loop.run_in_executor(running.executor, _ACTIONS[name], _shown[token], value)
        except (ValueError, TypeError) as error:
            self.set_status(400)
            self.finish({"error": str(error)})
            return
        self._answer(token)

    def _answer(self, token: str) -> None:
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(_shown[token].state()))
