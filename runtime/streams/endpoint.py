"""A pipeline's counters for Prometheus: GET /metrics."""

from __future__ import annotations

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from allfocus.runtime.closing import Closing
from allfocus.runtime.errors import UsageError
from allfocus.runtime.streams.counters import Snapshot
from allfocus.runtime.streams.prometheus import exposition

_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Endpoint(Closing):
    """Serves `snapshot()` on `host`:`port` until it is closed; port 0 takes a free one.

    By default for this machine alone: the counters are nobody else's business. Raises UsageError
    where the port is taken.
    """

    def __init__(
        self, snapshot: Callable[[], Snapshot], port: int, host: str = "127.0.0.1"
    ) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path.partition("?")[0] != "/metrics":
                    self.send_error(404, "only /metrics is here")
                    return
                body = exposition(snapshot()).encode()
                self.send_response(200)
                self.send_header("Content-Type", _TYPE)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Silent: one line every few seconds is no news."""

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except (OSError, OverflowError) as error:
            raise UsageError(f"metrics on {host}:{port}: {error}; choose another port") from None
        self._thread = Thread(target=self._server.serve_forever, name="allfocus-metrics")
        self._thread.daemon = True
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop serving; a second call does nothing."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
