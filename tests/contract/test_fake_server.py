"""`vouch.testing.FakeServer` as code outside this project uses it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import vouch
from vouch import errors
from vouch.client.endpoint import find
from vouch.client.rpcs import METHODS
from vouch.grpc_status import STATUS
from vouch.testing import GENERATOR, TOKENS, FakeServer, flat_png
from vouch.types.rating import NewRating


def test_a_client_generates_and_rates_against_the_fake_server() -> None:
    with FakeServer() as server, vouch.connect(server.address) as client:
        (image,) = client.generate_images("neutrophil", seed=51).images
        rating = NewRating(
            image=image.digest, request_id="r1", rater="ada", kind="simulated", verdict="plausible"
        )
        client.record_rating(rating)
        assert [rated.image_digest for rated in server.ratings] == [image.digest]
    assert image.data == flat_png(51)
    assert image.score == pytest.approx(51 / 255)
    assert image.generator_version == GENERATOR


def test_an_image_scores_as_it_did_when_it_was_generated() -> None:
    with FakeServer() as server, vouch.connect(server.address) as client:
        (image,) = client.generate_images("neutrophil", seed=77).images
        (score,) = client.score_images(
            [vouch.client.ScoreItem(item_id="a", digest=image.digest, prompt="neutrophil")]
        )
    assert score.score == pytest.approx(image.score)


def test_a_server_with_auth_asks_for_the_tokens_of_the_roles() -> None:
    with FakeServer(auth=True) as server:
        with vouch.connect(server.address, token="wrong") as stranger, pytest.raises(errors.Unauthenticated):
            stranger.describe_caller()
        with vouch.connect(server.address, token=TOKENS["client"]) as client:
            assert client.describe_caller().role == "client"
            with pytest.raises(errors.PermissionDenied, match="operator"):
                list(client.list_runs())


def test_a_server_with_a_state_folder_is_found_by_it(tmp_path: Path) -> None:
    server = FakeServer(auth=True, state=tmp_path / "state")
    with server, vouch.connect(state=server.state, role="rater") as client:
        assert client.describe_caller().role == "rater"
    with pytest.raises(ValueError, match="no state folder"):
        _ = FakeServer().state


def test_a_full_server_says_when_to_come_again() -> None:
    with FakeServer() as server, vouch.connect(server.address) as client:
        server.full_for_s = 2.5
        with pytest.raises(errors.Exhausted) as caught:
            client.generate_images("neutrophil")
    assert caught.value.retry_after_s == 2.5


@pytest.mark.parametrize("kind", STATUS, ids=lambda kind: kind.__name__)
def test_the_fake_server_refuses_by_every_error_as_the_real_one_does(
    kind: type[errors.VouchError], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise kind("Do this instead.")

    monkeypatch.setattr(FakeServer, "GetServing", refuse)
    with (
        FakeServer() as server,
        vouch.client.Client(find(server.address), patience_s=0.1) as client,
        pytest.raises(errors.VouchError, match="Do this instead") as caught,
    ):
        client.get_serving()
    assert type(caught.value) is kind


def test_an_error_in_a_stream_is_raised_after_what_came_before_it() -> None:
    with FakeServer() as server, vouch.client.Client(find(server.address), patience_s=0.5) as client:
        (image,) = client.generate_images("neutrophil").images
        server.break_after = 2
        items = (
            vouch.client.ScoreItem(item_id=str(number), digest=image.digest, prompt="") for number in range(9)
        )
        results = client.score_stream(items, batch=1)
        assert next(results).score is not None
        with pytest.raises(errors.Unavailable, match="went away"):
            list(results)


@pytest.mark.parametrize("rpc", METHODS)
def test_every_rpc_of_the_contract_has_an_answer(rpc: str) -> None:
    assert callable(FakeServer()._handler(rpc))


def test_an_rpc_that_the_fake_does_not_play_answers_an_empty_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("vouch.testing.feedback.FakeFeedback.DescribeCaller")
    with FakeServer() as server, vouch.connect(server.address) as client:
        assert client.describe_caller().name == ""


def test_an_rpc_needs_the_role_of_the_table(tmp_path: Path) -> None:
    with (
        FakeServer(auth=True) as server,
        vouch.connect(server.address, token=TOKENS["client"]) as client,
        pytest.raises(errors.PermissionDenied, match="needs the role operator"),
    ):
        client.start_training("reward")


ALONE = """
import sys
class Hook:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"ray", "torch", "services", "sqlalchemy", "numpy", "PIL", "pyarrow"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hook())
import vouch
from vouch.testing import FakeServer
with FakeServer() as server, vouch.connect(server.address) as client:
    (image,) = client.generate_images("platelet", seed=3).images
    print(client.score_images([vouch.client.ScoreItem(item_id="a", digest=image.digest, prompt="platelet")])[0].score)
"""


def test_the_fake_server_runs_in_an_installation_of_the_client_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ALONE], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(3 / 255)
