"""Reading what a form sends: small, once per field, and as text."""

from __future__ import annotations

from urllib.parse import parse_qsl

from fastapi import Request

from serving.gateway.json_body import ClientGone, read_body
from serving.gateway.problems import MalformedBody

_MOST_BYTES = 16_384
_MOST_FIELDS = 20
_FORM = "application/x-www-form-urlencoded"


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form; of one that is named twice the last counts.

    Raises:
        MalformedBody: if it is not a form.
        TooLarge: if it is longer than any of ours.
    """
    remedy = "Send the form of the page."
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise MalformedBody(f"The body is not {_FORM}.", remedy=remedy)
    try:
        body = await read_body(request.scope["headers"], request.receive, _MOST_BYTES)
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS))
    except ClientGone as error:
        raise MalformedBody("The connection was closed before all of it came.", remedy="Send it again.") from error
    except ValueError as error:
        raise MalformedBody("The form cannot be read.", remedy=remedy) from error
