"""A loopback stand-in of the USGS's earthquake API, and an adapter to the requests that penstock's source sends.

`python -m tests.quakes PORT` serves both.
"""

import json
import random
import sys
import urllib.request
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

COUNT = 1200
API, ADAPTER = "/fdsnws/event/1/query", "/adapter"
_FIRST_MS = 1_767_139_200_000
"""2025-12-31T00:00Z."""
_PARAMETERS = {"format", "limit", "offset", "orderby", "starttime", "endtime", "minmagnitude", "updatedafter"}


@cache
def build_feature(at: int) -> dict[str, Any]:
    """Return the earthquake at a position of the catalogue: one every four minutes."""
    numbers = random.Random(at)
    time_ms = _FIRST_MS + at * 240_000 + numbers.randrange(60_000)
    properties = {
        "mag": None if at % 17 == 0 else round(numbers.uniform(-0.5, 7.5), 1),
        "magType": numbers.choice(["ml", "mb", "mww", None]),
        "place": f"{numbers.randint(1, 90)} km NE of Göschenen {at % 40}",
        "time": time_ms,
        "updated": time_ms + 5000,
        "tsunami": int(at % 50 == 0),
        "sources": ",us,ci," if at % 3 else "",
    }
    coordinates = [round(numbers.uniform(low, high), 4) for low, high in ((-180, 180), (-90, 90), (0, 600))]
    geometry = {"type": "Point", "coordinates": coordinates}
    return {"type": "Feature", "id": f"us{at:08x}", "properties": properties, "geometry": geometry}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer as the API or as the adapter."""
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path == API:
            self._answer_query(query)
        elif url.path == ADAPTER:
            self._answer(200, {"results": self._fetch(int(query["results"]), int(query["page"]))})
        else:
            self._answer(404, {"error": f"no {url.path}"})

    def _answer_query(self, query: dict[str, str]) -> None:
        if unknown := query.keys() - _PARAMETERS:
            self._answer(400, {"error": f"unknown parameters: {', '.join(sorted(unknown))}"})
            return
        first, limit = int(query.get("offset", 1)) - 1, int(query.get("limit", 20_000))
        features = [build_feature(at) for at in range(first, min(first + limit, COUNT))]
        self._answer(200, {"type": "FeatureCollection", "features": features})

    def _fetch(self, results: int, page: int) -> list[Any]:
        """Return a page of the API, which counts from offset 1."""
        host, port = self.server.server_address[:2]
        asked = {"format": "geojson", "orderby": "time-asc", "limit": results, "offset": (page - 1) * results + 1}
        with urllib.request.urlopen(f"http://{host!s}:{port}{API}?{urlencode(asked)}", timeout=20) as answer:
            features: list[Any] = json.load(answer)["features"]
        return features

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), _Handler).serve_forever()
