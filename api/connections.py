"""HTTP connections of the API: uvicorn's protocol with bounds on the head of a request.

uvicorn has no setting for them. Its parser copies the unfinished part of a head for each packet, so a head has to be
refused before the parser has seen much of it.
"""

import json
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

MOST_PART_BYTES = 16 * 1024
"""Maximum size of the address, and of a header. Browsers, proxies, cookies and tokens need at most 8 KiB."""

MOST_HEAD_BYTES = 64 * 1024
"""Maximum size of all headers. Also the part of a packet that the parser gets at a time."""

MOST_HEADERS = 100
"""Maximum number of headers, as in Apache. Requests through several proxies have some 30."""


class BoundedProtocol(HttpToolsProtocol):
    """HTTP/1.1 connection that refuses large heads with 414 or 431 and closes."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.url = b""
        self._unparsed_bytes = 0  # received since the parser last found a body or the end of a head

    def data_received(self, data: bytes) -> None:
        """Pass the data to the parser in pieces, until a bound is exceeded."""
        for start in range(0, len(data), MOST_HEAD_BYTES):
            piece = data if len(data) <= MOST_HEAD_BYTES else data[start : start + MOST_HEAD_BYTES]
            self._unparsed_bytes += len(piece)
            super().data_received(piece)
            if self._unparsed_bytes > MOST_HEAD_BYTES:
                self._refuse()
            if self.transport.is_closing():
                return

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._unparsed_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Start the request, or refuse its head."""
        self._unparsed_bytes = 0
        sizes = [len(name) + len(value) for name, value in self.headers]
        largest = max(len(self.url), *sizes) if sizes else len(self.url)
        if largest > MOST_PART_BYTES or sum(sizes) > MOST_HEAD_BYTES or len(sizes) > MOST_HEADERS:
            self._refuse()
        elif not self.transport.is_closing():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Pass a part of the body to the application."""
        self._unparsed_bytes = 0
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request."""
        self._unparsed_bytes = 0
        if not self.transport.is_closing():
            super().on_message_complete()

    def _refuse(self) -> None:
        """Close the connection, after a response with the error if no other response is awaited."""
        if self.cycle is None or self.cycle.response_complete:
            status, what = (414, "The address") if len(self.url) > MOST_PART_BYTES else (431, "The head of the request")
            body = json.dumps({"code": status, "message": f"{what} is too large."}).encode()
            head = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            self.transport.write(STATUS_LINE[status] + head.encode() + body)
        self.transport.close()
