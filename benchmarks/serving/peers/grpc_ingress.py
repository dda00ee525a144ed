"""What Serve's gRPC proxy has to know of the peer behind it. Imported by the proxy, so it is kept light."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.wrappers_pb2 import BytesValue

from benchmarks.serving.asks import METHOD, SERVICE

ADD = f"{__name__}.add_drawing"


def add_drawing(servicer: Any, server: Any) -> None:
    """As generated code would, for one method that takes and returns bytes."""
    draw = grpc.unary_unary_rpc_method_handler(
        getattr(servicer, METHOD),
        request_deserializer=BytesValue.FromString,
        response_serializer=BytesValue.SerializeToString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: draw}),))
