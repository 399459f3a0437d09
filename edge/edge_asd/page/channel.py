"""A connection to the page, as waitress keeps it, and what that answers by itself where a request is none."""

from __future__ import annotations

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.task import ErrorTask

from edge_asd.page.answer import SAFETY


class Refusal(ErrorTask):  # type: ignore[misc]  # waitress has no types
    """400, 413, 431, 501: no less harmless to a browser than what we answer."""

    def execute(self) -> None:
        self.response_headers.extend(SAFETY)
        super().execute()


class Parser(HTTPRequestParser):  # type: ignore[misc]  # as above
    """A request whose address or length can't be is refused, as others are that can't be."""

    def parse_header(self, header_plus: bytes) -> None:
        try:
            super().parse_header(header_plus)
        except ValueError as error:  # of `http://[`, or of a length of thousands of digits: the log would fill
            raise ParsingError("Address or Content-Length is invalid") from error


class Channel(HTTPChannel):  # type: ignore[misc]  # as above
    """A connection whose requests come in time: one that trickles in is as silent as one that doesn't come."""

    parser_class = Parser
    error_task_class = Refusal
    last_activity: float

    def handle_read(self) -> None:
        before = self.last_activity
        super().handle_read()
        if self.request is not None:  # a part of one, which is no sign of life
            self.last_activity = before
