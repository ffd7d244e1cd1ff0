"""What is asked in an inference request: tensors in, and which ones to send back."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from core.errors import TooLarge
from serving.gateway.json_body import parse_object
from serving.gateway.problems import BadHeader, Fault, InvalidFields, MalformedBody, UnsupportedEncoding, shown
from serving.open_inference.tensors import BYTES, FRACTIONS, HEADER_LENGTH, WHOLE, from_bytes

OUTPUTS: Final = ("scores", "prediction_ids", "degraded")
_DATATYPES: Final = (*WHOLE, *FRACTIONS, BYTES)
_LONGEST_ID: Final = 256
_WINDOW_BITS: Final = {"gzip": 31, "deflate": 15}  # of zlib: which container it is to expect
_OWN_MEMORY: Final = ("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset")


@dataclass(frozen=True, slots=True)
class Column:
    """One input tensor: a value per instance.

    Args:
        datatype: as the client named it.
        values: n elements; unchecked but for their number.
    """

    datatype: str
    values: list[Any]


@dataclass(frozen=True, slots=True)
class InferRequest:
    """One parsed inference request.

    Args:
        identity: the client's id for it, "" if none.
        inputs: by name, at least one, all of the same length.
        outputs: the tensors to send, and whether as bytes.
    """

    identity: str
    inputs: Mapping[str, Column]
    outputs: Mapping[str, bool]


def inflate(body: bytes, encoding: str, limit: int) -> bytes:
    """The body as it was before the client compressed it, never more than `limit` bytes.

    Raises:
        UnsupportedEncoding: if it is neither gzip nor deflate.
        TooLarge: as soon as that is known.
        MalformedBody: if it cannot be decompressed.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in _WINDOW_BITS:
        raise UnsupportedEncoding(encoding, tuple(_WINDOW_BITS))
    inflater = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        inflated = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise MalformedBody(
            f"The body is not {encoding} ({error}).", remedy=f"Send {encoding}, or no encoding."
        ) from error
    if len(inflated) > limit:
        raise TooLarge(
            f"The body is larger than {limit} bytes once inflated.", remedy="Split the call into smaller ones."
        )
    if not inflater.eof or inflater.unused_data:
        raise MalformedBody(f"The body is not one whole {encoding} stream.", remedy="Send all of it, and nothing else.")
    return inflated


def read_request(body: bytes, header_length: str | None) -> InferRequest:
    """Parse a request.

    Args:
        body: JSON, and after it the tensors that are sent as bytes.
        header_length: the Inference-Header-Content-Length header; None if there is none, and all is JSON.

    Raises:
        RequestError: naming what is wrong.
    """
    size = _header_length(header_length, len(body))
    document = parse_object(body[:size])
    parameters = _parameters(document, "parameters")
    inputs = _Inputs(body[size:]).read(document.get("inputs"))
    binary = _flag(parameters, "binary_data_output", False, "parameters")
    return InferRequest(_identity(document.get("id")), inputs, _outputs(document.get("outputs"), binary))


def _header_length(header: str | None, most: int) -> int:
    if header is None:
        return most
    if not header.isascii() or not header.isdigit() or len(header) > 18 or int(header) > most:
        raise BadHeader(
            f"This is {shown(header)}, the body has {most} bytes.",
            field=HEADER_LENGTH,
            remedy="Send how many bytes of the body are JSON, or leave it out if all are.",
        )
    return int(header)


def _identity(found: Any) -> str:
    if found is None:
        return ""
    if type(found) is not str or len(found) > _LONGEST_ID:
        raise _fault("id", f"Must be a string of at most {_LONGEST_ID} characters, got {shown(found)}.", "Shorten it.")
    return found


class _Inputs:
    """Reads the input tensors; those sent as bytes follow each other in `rest`."""

    def __init__(self, rest: bytes) -> None:
        self._rest = rest
        self._taken = 0

    def read(self, found: Any) -> dict[str, Column]:
        if type(found) is not list or not found or not all(type(tensor) is dict for tensor in found):
            raise _fault("inputs", f"Must be an array of tensors, got {shown(found)}.", "Send one tensor per field.")
        columns: dict[str, Column] = {}
        for i, tensor in enumerate(found):
            name = tensor.get("name")
            if type(name) is not str:
                raise _fault(f"inputs[{i}].name", f"Must be a string, got {shown(name)}.", "Send the field's name.")
            if name in columns:
                raise _fault(name[:60], "This input stands twice.", "Send each input once.")
            columns[name] = self._column(name[:60], tensor)
        if self._taken != len(self._rest):
            detail = f"{len(self._rest)} bytes follow the JSON, the inputs account for {self._taken}."
            raise _fault("binary_data_size", detail, "Send each tensor's number of bytes as its binary_data_size.")
        lengths = {name: len(column.values) for name, column in columns.items()}
        if len(set(lengths.values())) > 1:
            detail = (
                f"The inputs differ in length: {', '.join(f'{k[:60]} {n}' for k, n in list(lengths.items())[:10])}."
            )
            raise _fault("inputs", detail, "Send one value per instance in each.")
        return columns

    def _column(self, name: str, tensor: Mapping[str, Any]) -> Column:
        datatype, n = tensor.get("datatype"), _rows(name, tensor.get("shape"))
        if type(datatype) is not str or datatype not in _DATATYPES:
            raise _fault(f"{name}.datatype", f"This is {shown(datatype)}.", f"Use one of {', '.join(_DATATYPES)}.")
        parameters = _parameters(tensor, f"{name}.parameters")
        if any(key in parameters for key in _OWN_MEMORY):
            raise _fault(name, "Shared memory is not supported.", "Send the data in the request.")
        size = parameters.get("binary_data_size")
        if size is None:
            return Column(datatype, _listed(name, n, tensor.get("data")))
        raw = self._take(name, size)
        if tensor.get("data") is not None:
            raise _fault(name, "It has both data and a binary_data_size.", "Send one of the two.")
        try:
            return Column(datatype, from_bytes(datatype, n, raw))
        except ValueError as error:
            raise _fault(name, f"The tensor {error}.", "Send as many elements as the shape says.") from error

    def _take(self, name: str, size: Any) -> bytes:
        left = len(self._rest) - self._taken
        if type(size) is not int or not 0 <= size <= left:
            detail = f"This is {shown(size)}, {left} bytes are left after the JSON and the inputs before it."
            remedy = f"Send the tensor's number of bytes, and the JSON's in the {HEADER_LENGTH} header."
            raise _fault(f"{name}.binary_data_size", detail, remedy)
        self._taken += size
        return self._rest[self._taken - size : self._taken]


def _rows(name: str, shape: Any) -> int:
    """How many instances a tensor of that shape holds a value of."""
    dimensions = shape if type(shape) is list else []
    fits = (
        len(dimensions) in (1, 2) and all(type(d) is int and d > 0 for d in dimensions) and dimensions[1:] in ([], [1])
    )
    if not fits:
        got = dimensions if 0 < len(dimensions) < 10 and all(type(d) is int for d in dimensions) else shown(shape)
        raise _fault(f"{name}.shape", f"This is {str(got)[:60]}.", "Send [n] or [n, 1], n at least 1.")
    return int(dimensions[0])


def _listed(name: str, n: int, found: Any) -> list[Any]:
    """The elements of a tensor sent as JSON, flat or nested."""
    if type(found) is not list:
        raise _fault(f"{name}.data", f"Must be an array, got {shown(found)}.", "Send one value per instance.")
    data: list[Any] = found
    if any(type(value) is list for value in data):
        if not all(type(value) is list and len(value) == 1 for value in data):
            raise _fault(f"{name}.data", "Its arrays do not fit the shape.", "Send one value per instance.")
        data = [value[0] for value in data]
    if len(data) != n:
        raise _fault(f"{name}.data", f"Has {len(data)} elements, the shape says {n}.", "Make the two agree.")
    return data


def _outputs(found: Any, binary: bool) -> dict[str, bool]:
    if found is None or found == []:
        return dict.fromkeys(OUTPUTS, binary)
    if type(found) is not list or not all(type(output) is dict for output in found):
        raise _fault("outputs", f"Must be an array of objects, got {shown(found)}.", "Leave it out to get all outputs.")
    wanted: dict[str, bool] = {}
    for i, output in enumerate(found):
        name = output.get("name")
        if name not in OUTPUTS or name in wanted:
            detail = f"There is no output {shown(name)}." if name not in OUTPUTS else f"{name} stands twice."
            raise _fault(f"outputs[{i}].name", detail, f"Use each of {', '.join(OUTPUTS)} at most once.")
        parameters = _parameters(output, f"outputs[{i}].parameters")
        unsupported = next((key for key in ("classification", *_OWN_MEMORY) if parameters.get(key)), None)
        if unsupported is not None:
            raise _fault(f"outputs[{i}].parameters.{unsupported}", "This is not supported.", "Leave it out.")
        wanted[name] = _flag(parameters, "binary_data", binary, f"outputs[{i}].parameters")
    return wanted


def _parameters(holder: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    """The parameters of a request or a tensor; those not known are for other servers, and are passed over."""
    found = holder.get("parameters")
    if found is None:
        return {}
    if type(found) is not dict:
        raise _fault(path, f"Must be an object, got {shown(found)}.", "Leave it out if there are none.")
    return dict(found)


def _flag(parameters: Mapping[str, Any], key: str, default: bool, path: str) -> bool:
    found = parameters.get(key)
    if found is None:
        return default
    if type(found) is not bool:
        raise _fault(f"{path}.{key}", f"Must be true or false, got {shown(found)}.", "Send true to get bytes.")
    return found


def _fault(field: str, detail: str, remedy: str) -> InvalidFields:
    return InvalidFields([Fault(field, detail, remedy)])
