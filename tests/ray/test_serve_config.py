"""deploy/serve.yaml on a Ray that runs already: what `serve deploy` hands to Serve is deployed and answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import vouch
from benchmarks.cluster.ray_nodes import ray_nodes
from services.ports import free_range
from tests.conftest import _emptied
from tests.ray.conftest import ROOT
from vouch.errors import VouchError
from vouch.storage.catalog import Catalog
from vouch.storage.catalog.tokens import new_secret

pytestmark = [pytest.mark.ray, pytest.mark.timeout(1800), pytest.mark.slow]

# What the dashboard does with a config that `serve deploy` sends to it, without a dashboard. The deployment is given up
# to its cluster's end: its replicas would wait an hour for requests that there are not.
DEPLOY = """
import json, sys
import ray
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema
config = json.loads(sys.stdin.read())
ray.init(address=sys.argv[1], log_to_driver=False)
serve.start(http_options=config["http_options"], grpc_options=config["grpc_options"])
_get_global_client().deploy_apps(ServeDeploySchema.model_validate(config), _blocking=True)
print(serve.status().applications["vouch"].status.value)
"""


def test_the_serve_config_deploys_and_draws(postgres, bucket, models: Path, tmp_path: Path) -> None:
    metrics, url, port = tmp_path / "metrics", _emptied(postgres), free_range(2)
    metrics.mkdir()
    settings = {
        "VOUCH_STATE": str(tmp_path / "state"),
        "VOUCH_CATALOG_URL": url,
        "VOUCH_BLOBS_URL": f"{bucket}/blobs",
        "VOUCH_MODELS_URL": f"{bucket}/models",
        "VOUCH_GENERATION__MODEL": str(models / "first"),
        "VOUCH_REWARD__MODEL": str(models / "judge"),
        "VOUCH_GENERATION__COMPILE": "false",
        "SERVICES_METRICS_FOLDER": str(metrics),
        "SERVICES_LOGS_FOLDER": str(tmp_path),
    }
    subprocess.run(
        [sys.executable, "-m", "services.prepare"], env={**os.environ, **settings}, cwd=ROOT, check=True
    )
    with Catalog(url) as catalog:
        catalog.tokens.ensure("operator", "operator", (), secret := new_secret())
    config = yaml.safe_load((ROOT / "deploy" / "serve.yaml").read_text())
    config["http_options"] |= {
        "host": "127.0.0.1",
        "port": port + 1,
    }  # other ports than those of a system beside
    config["grpc_options"]["port"] = port
    with ray_nodes(settings, cpus=(4,)) as nodes:
        done = subprocess.run(
            [sys.executable, "-c", DEPLOY, nodes.cluster.address], input=json.dumps(config), cwd=ROOT,
            env={**os.environ, **nodes.environment}, capture_output=True, text=True, timeout=900, check=False,
        )  # fmt: skip
        assert done.stdout == "RUNNING\n", done.stderr[-3000:]
        with vouch.connect(f"127.0.0.1:{port}", token=secret, timeout_s=120) as client:
            assert client.generate_images("neutrophil", steps=2).images[0].data
            assert {slot.champion_name for slot in client.get_serving().slots} == {
                "generator-first",
                "reward-judge",
            }
        with (
            vouch.connect(f"127.0.0.1:{port}", token=new_secret(), timeout_s=60) as stranger,
            pytest.raises(VouchError, match="token"),
        ):
            stranger.get_serving()
