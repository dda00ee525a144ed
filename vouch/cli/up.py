"""``vouch up``: run the whole system in the foreground."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from vouch.cli.session import Session, command
from vouch.extras import require

SYSTEM = "services.system"

app = typer.Typer()


HostOption = Annotated[
    str | None,
    typer.Option(
        help="Address to listen on. Any address other than loopback needs TLS.", show_default="127.0.0.1"
    ),
]
GrpcPortOption = Annotated[int | None, typer.Option(help="gRPC port.", show_default="9000")]
HttpPortOption = Annotated[int | None, typer.Option(help="HTTP port.", show_default="8000")]
GeneratorOption = Annotated[
    str | None, typer.Option(help="Diffusers folder to serve instead of the starter model.")
]
RewardOption = Annotated[
    str | None, typer.Option(help="Reward model folder to serve instead of the starter's.")
]
CertificateOption = Annotated[Path | None, typer.Option(help="TLS certificate, PEM.")]
KeyOption = Annotated[Path | None, typer.Option(help="Private key of the TLS certificate, PEM.")]
TrustNetworkOption = Annotated[
    bool,
    typer.Option("--trust-network", help="Start even if internal ports are reachable from other machines."),
]
RayAddressOption = Annotated[
    str | None,
    typer.Option(help="HOST:PORT of a running Ray cluster to serve on; run the command on its head node."),
]
SettingsOption = Annotated[Path | None, typer.Option(help="JSON file with settings.")]


@command(
    app,
    "up",
    """
    vouch up
    vouch up --state /data/vouch --grpc-port 9100 --http-port 8100
    vouch up --generator path/to/a/diffusers/folder
    vouch up --ray-address 10.0.0.1:6379
    """,
)
def up(
    session: Session,
    host: HostOption = None,
    grpc_port: GrpcPortOption = None,
    http_port: HttpPortOption = None,
    generator: GeneratorOption = None,
    reward: RewardOption = None,
    tls_cert: CertificateOption = None,
    tls_key: KeyOption = None,
    trust_network: TrustNetworkOption = False,
    ray_address: RayAddressOption = None,
    settings: SettingsOption = None,
) -> None:
    """Start the system on this machine and run it until Ctrl-C.

    Prints its addresses. All data are stored in the state folder; access.json there holds the tokens.
    """
    given = {
        "VOUCH_STATE": session.state,
        "VOUCH_SETTINGS": settings,
        "VOUCH_SERVER__HOST": host,
        "VOUCH_SERVER__GRPC_PORT": grpc_port,
        "VOUCH_SERVER__HTTP_PORT": http_port,
        "VOUCH_SERVER__TLS_CERT": tls_cert,
        "VOUCH_SERVER__TLS_KEY": tls_key,
        "VOUCH_SERVER__TRUST_NETWORK": "true" if trust_network else None,
        "VOUCH_RAY_ADDRESS": ray_address,
        "VOUCH_GENERATION__MODEL": generator,
        "VOUCH_REWARD__MODEL": reward,
    }
    os.environ.update({name: str(value) for name, value in given.items() if value is not None})
    _check_settings()
    arguments = ["--json"] if session.as_json else []
    # The system replaces this process: signals reach it directly, and no client library stays in memory.
    os.execv(sys.executable, [sys.executable, "-m", SYSTEM, *arguments])  # noqa: S606 - a fixed command


def _check_settings() -> None:
    from vouch.settings import load_settings

    load_settings()
    require("server")
