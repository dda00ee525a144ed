"""An installation of the client alone: what it imports, and which extra a command names when it misses one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from vouch import extras
from vouch.cli.main import root
from vouch.testing import FakeServer, flat_png

HEAVY = tuple(module for modules in extras.PACKAGES.values() for module in modules)
POSIX_ONLY = ("fcntl", "grp", "pwd", "resource", "termios", "tty")

BLOCKING = """
import sys
class Hook:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
BLOCKED = set(sys.argv[1].split(","))
for name in BLOCKED:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Hook())
"""

EVERY_COMMAND = (
    BLOCKING
    + """
import json
from typer.testing import CliRunner
from vouch.cli.main import root
for line in sys.stdin:
    result = CliRunner().invoke(root, json.loads(line))
    print(json.dumps([result.exit_code, result.output, repr(result.exception)]))
"""
)

WORKS: dict[str, str] = {
    "status": "",
    "logs": "",
    "generate": "neutrophil --out OUT",
    "score": "DIGEST --prompt neutrophil",
    "rate": "--limit 1",
    "ratings list": "",
    "ratings export": "OUT.csv",
    "ratings import": "RATINGS.csv",
    "train reward": "--detach",
    "train align": "--detach",
    "concept label": "band --parent neutrophil --limit 1",
    "concept add": "band --parent neutrophil --detach",
    "runs list": "",
    "runs show": "run-1",
    "runs cancel": "run-1",
    "runs watch": "run-2",
    "versions": "",
    "lineage": "generator-2",
    "rollout start": "generator-2",
    "rollout promote": "rollout-1",
    "rollout rollback": "rollout-1 --reason test",
    "rollout status": "",
    "rollout watch": "rollout-1",
    "rollout pause": "rollout-1",
    "rollout resume": "rollout-1",
    "rollout history": "",
    "audit list": "",
    "audit verify": "",
    "replay": "DIGEST",
}
"""Commands that the client's packages are enough for, with arguments."""
NEEDS: dict[str, tuple[str, str]] = {
    "score": ("formats", "IMAGE --prompt neutrophil --window 0:4095"),
    "filter": ("formats", "IMAGES OUT --prompt neutrophil"),
    "review add-real": ("formats", "IMAGES --prompt neutrophil"),
    "ratings export": ("formats", "OUT.parquet"),
    "adapt": ("train", "--check-only --data IMAGES"),
    "lora export": ("server", "generator-1 OUT"),
    "lora import": ("server", "IMAGE --base generator-1"),
    "up": ("server", ""),
    "reward compare": ("server", "one two"),
    "token create": ("server", "--name ada --role rater"),
    "token list": ("server", ""),
    "token revoke": ("server", "ada"),
    "token rotate": ("server", "ada"),
    "backup": ("server", "OUT"),
    "restore": ("server", "OUT"),
    "check": ("server", ""),
    "gc": ("server", ""),
    "train pretrain": ("train", "--data IMAGES --offline --out OUT"),
    "demo": ("train", "--once"),
    "evaluate": ("train", "generator-1 --offline --data IMAGES"),
}
"""Commands that miss an extra: its name, and arguments."""


def python(code: str, blocked: tuple[str, ...], stdin: str = "") -> str:
    """What a new Python prints in which the `blocked` modules cannot be imported. USERNAME is set, as on Windows."""
    done = subprocess.run(
        [sys.executable, "-c", code, ",".join(blocked)],
        input=stdin, capture_output=True, text=True, timeout=240, check=False, env={**os.environ, "USERNAME": "ada"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def commands(command: Any, path: tuple[str, ...] = ()) -> list[str]:
    if not hasattr(command, "commands"):
        return [" ".join(path)]
    return [name for key, sub in command.commands.items() for name in commands(sub, (*path, key))]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], tuple[int, str]]:
    """Exit code and output of every line of both tables, by command and extra, without any extra."""
    folder = tmp_path_factory.mktemp("light")
    images = folder / "images"
    images.mkdir()
    (images / "a.png").write_bytes(flat_png(5))
    lines = [(name, "", arguments) for name, arguments in WORKS.items()]
    lines += [(name, extra, arguments) for name, (extra, arguments) in NEEDS.items()]
    with FakeServer(auth=True, state=folder / "state") as server:
        image = server._image("neutrophil", 7, 0)
        words = {
            "OUT": str(folder / "out"), "OUT.csv": str(folder / "out.csv"), "OUT.parquet": str(folder / "out.parquet"),
            "IMAGES": str(images), "IMAGE": str(images / "a.png"), "DIGEST": image.digest,
            "RATINGS.csv": str(folder / "out.csv"),
        }  # fmt: skip
        calls = [
            [
                *name.split(),
                *(words.get(word, word) for word in arguments.split()),
                "--state",
                str(server.state),
            ]
            for name, _, arguments in lines
        ]
        printed = python(EVERY_COMMAND, (*HEAVY, *POSIX_ONLY), "\n".join(map(json.dumps, calls)))
    results = [json.loads(line) for line in printed.splitlines()]
    return {
        (name, extra): (code, output)
        for (name, extra, _), (code, output, _) in zip(lines, results, strict=True)
    }


def test_every_command_is_in_a_table() -> None:
    assert set(commands(typer.main.get_command(root))) == {*WORKS, *NEEDS}


@pytest.mark.parametrize("name", WORKS)
def test_the_client_is_enough_for(outcomes: dict[tuple[str, str], tuple[int, str]], name: str) -> None:
    code, output = outcomes[name, ""]
    assert code == 0, output


@pytest.mark.parametrize("name", NEEDS)
def test_a_command_names_the_extra_that_it_misses(
    outcomes: dict[tuple[str, str], tuple[int, str]], name: str
) -> None:
    extra, _ = NEEDS[name]
    code, output = outcomes[name, extra]
    assert code == 5, output
    assert f"pip install 'vouch[{extra}]'" in " ".join(output.split())


def test_importing_vouch_and_its_client_imports_nothing_heavy() -> None:
    code = "import sys, json, vouch, vouch.client; print(json.dumps(sorted(sys.modules)))"
    modules = {name.partition(".")[0] for name in json.loads(python(code, ()))}
    assert modules.isdisjoint(set(HEAVY) - {"grpc_health", "grpc_reflection"})  # which grpc itself looks for


def test_the_client_imports_where_posix_is_not(tmp_path: Path) -> None:
    code = BLOCKING + "import vouch, vouch.client, vouch.cli.main, vouch.testing; print(vouch.__version__)"
    assert python(code, POSIX_ONLY).strip()


def test_a_client_works_where_posix_is_not() -> None:
    code = (
        BLOCKING
        + "import vouch\nwith vouch.connect(sys.argv[2]) as client: print(client.describe_caller().role)"
    )
    with FakeServer() as server:
        done = subprocess.run(
            [sys.executable, "-c", code, ",".join(POSIX_ONLY), server.address],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert done.stdout.strip() == "operator", done.stderr


def test_a_module_of_no_extra_is_not_explained_by_one() -> None:
    assert extras.missing_extra(ModuleNotFoundError("no", name="left_pad")) is None
    missing = extras.missing_extra(ModuleNotFoundError("no", name="torch.nn"))
    assert missing is not None
    assert "vouch[server]" in str(missing)


def test_an_installed_extra_is_not_asked_for() -> None:
    for extra in extras.NEEDED:
        extras.require(extra)


def test_every_package_of_an_extra_is_in_pyproject() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    named = {
        "PIL": "pillow", "upath": "universal-pathlib", "sklearn": "scikit-learn",
        "grpc_health": "grpcio-health-checking", "grpc_reflection": "grpcio-reflection",
        "prometheus_client": "prometheus-client",
    }  # fmt: skip
    bare, _, extra = text.partition("[project.optional-dependencies]")
    for module in HEAVY:
        assert f'"{named.get(module, module)}' in extra.partition("dev = [")[0], module
        assert f'"{named.get(module, module)}>' not in bare, module
