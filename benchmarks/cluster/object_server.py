"""A server of the S3 protocol on this machine, for tests of object stores."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

BUCKET = "vouch"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
}


@contextmanager
def object_server() -> Iterator[dict[str, str]]:
    """The environment variables with which a process finds the server; it has one bucket, `BUCKET`.

    It takes one request after another: moto looks whether a key exists and then writes it, without a lock, so that
    with threads `If-None-Match` would not be atomic. S3 itself promises that it is.
    """
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Silent(WSGIRequestHandler):
        def log(self, type: str, message: str, *arguments: object) -> None:
            pass

    application = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, application, threaded=False, request_handler=Silent)
    thread = threading.Thread(target=server.serve_forever, name="objects", daemon=True)
    thread.start()
    environment = {**ENVIRONMENT, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.port}"}
    try:
        _make_bucket(environment)
        yield environment
    finally:
        server.shutdown()
        thread.join()


def _make_bucket(environment: dict[str, str]) -> None:
    import boto3

    boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_DEFAULT_REGION"],
    ).create_bucket(Bucket=BUCKET)


def use(environment: dict[str, str]) -> None:
    """Let this process and those that it starts find the server."""
    os.environ.update(environment)
