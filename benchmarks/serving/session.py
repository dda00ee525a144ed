"""What is measured in which order: the model alone, the settings of the peers, then every contender in every repeat.

Never two servers at once, and the contenders in another order in each repeat, so that none always has the machine at
its warmest.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from benchmarks.serving.alone import AloneTimes, alone_rows
from benchmarks.serving.bare import limits
from benchmarks.serving.contenders import Contender, Server, Setting
from benchmarks.serving.log import Log
from benchmarks.serving.page import between
from benchmarks.serving.plan import ServingPlan
from benchmarks.serving.replay import Notes, Send, closed_loop, in_turn, open_loop
from benchmarks.serving.runs import SATURATION, Answer, ServingRun
from benchmarks.serving.scores import good_images, image_steps, percentile, rate
from benchmarks.serving.trace import Arrival, Mix, poisson, prompts_of
from benchmarks.serving.tuning import best

PRACTICE_SEED, TUNING_SEED = 900, 901  # of repeats that there are not
PRACTICE_S = 300.0
ABREAST = 4  # requests under way while practising
ERRORS = 3  # kept of each run
Result = TypeVar("Result")


class BenchmarkSession:
    """Fills a log with what the plan asks for and the log does not hold yet."""

    def __init__(self, plan: ServingPlan, log: Log, model: Path, folder: Path) -> None:
        self._plan, self._log, self._model, self._folder = plan, log, model, folder
        self._mix = Mix(prompts_of(model), steps=plan.steps)
        self._limit, self._alone = self._set_up()

    def tune(self, contender: Contender) -> None:
        if len(contender.grid) == 1 or self._log.setting(contender.name):
            return
        grid = contender.grid if self._plan.whole_grid else contender.grid[:1]
        tried = {setting: self._try(contender, setting) for setting in grid}
        chosen = best(tried)
        results = [[*vars(setting).values(), rate([run], good_images)] for setting, run in tried.items()]
        self._log.add("tuning", contender=contender.name, chosen=[*vars(chosen).values()], tried=results)

    def repeat(self, number: int, contenders: Sequence[Contender]) -> None:
        if not self._log.find("bare", repeat=number):
            self._log.add("bare", repeat=number, image_steps_per_s=max(self._limits().values()))
        turn = number % len(contenders)
        for contender in (*contenders[turn:], *contenders[:turn]):
            missing = [load for load in self._plan.loads if not self._log.has(contender.name, load, number)]
            if not missing:
                continue
            try:
                self._measure(contender, missing, number)
            except (RuntimeError, asyncio.TimeoutError) as error:
                print(
                    f"{contender.name} broke off in repeat {number}, --resume tries again: {error}",
                    flush=True,
                )

    # ---- one contender

    def _measure(self, contender: Contender, loads: Sequence[str], repeat: int) -> None:
        setting = self._log.setting(contender.name) or contender.grid[0]
        with ExitStack() as stack:
            server = None
            for load in loads:
                if server is None:
                    server = stack.enter_context(self._running(contender, setting))
                run = self._run(contender, server, load, repeat)
                self._log.add_run(run)
                print(line_of(run), flush=True)
                if run.unanswered:  # it may still work on them, and the next load is to begin with nothing
                    stack.close()
                    server = None

    def _try(self, contender: Contender, setting: Setting) -> ServingRun:
        plan = self._plan
        with self._running(contender, setting) as server:
            arrivals = self._arrivals(plan.tune_share, plan.tune_s, TUNING_SEED)
            notes = _replay(server, lambda send: open_loop(send, arrivals, grace_s=plan.grace_s))
            run = self._as_run(contender.name, "tuning", 0, notes, plan.tune_s)
            print(f"{line_of(run)}   max_batch {setting.max_batch}, wait {setting.wait_s} s", flush=True)
            return run

    @contextmanager
    def _running(self, contender: Contender, setting: Setting) -> Iterator[Server]:
        """Started, and used a little: first calls are slow, and BentoML learns from its first batches."""
        with contender.start(self._model, self._folder, setting) as server:
            asks = list(itertools.islice(self._mix.asks(PRACTICE_SEED), self._plan.practice))
            _replay(server, lambda send: in_turn(send, asks, outstanding=ABREAST, timeout_s=PRACTICE_S))
            yield server

    # ---- one load

    def _run(self, contender: Contender, server: Server, load: str, repeat: int) -> ServingRun:
        before = server.page()
        run = self._saturated if load == SATURATION else self._open
        found = run(contender.name, server, load, repeat)
        return ServingRun(**{**vars(found), "page": between(before, server.page())})

    def _open(self, contender: str, server: Server, load: str, repeat: int) -> ServingRun:
        plan = self._plan
        arrivals = self._arrivals(plan.share_of(load), plan.seconds, self._seed(load, repeat))
        notes = _replay(server, lambda send: open_loop(send, arrivals, grace_s=plan.grace_s))
        return self._as_run(contender, load, repeat, notes, plan.seconds)

    def _saturated(self, contender: str, server: Server, load: str, repeat: int) -> ServingRun:
        plan, asks = self._plan, self._mix.asks(self._seed(load, repeat))
        whole_s = plan.warm_up_s + plan.seconds
        notes = _replay(
            server, lambda send: closed_loop(send, asks, outstanding=plan.outstanding, seconds=whole_s)
        )
        return self._as_run(contender, load, repeat, notes, plan.seconds, begin_s=plan.warm_up_s)

    def _as_run(
        self, contender: str, load: str, repeat: int, notes: Notes, seconds: float, begin_s: float = 0.0
    ) -> ServingRun:
        errors = sorted({outcome.error[:200] for outcome in notes.outcomes if outcome.error})[:ERRORS]
        answers = [Answer.of(outcome, self._alone) for outcome in notes.outcomes]
        end_s = begin_s + seconds if load == SATURATION else max(seconds, notes.ended_s)
        return ServingRun(contender, load, repeat, seconds, begin_s, end_s, answers, errors)

    def _arrivals(self, share: float, seconds: float, seed: int) -> list[Arrival]:
        per_s = share * self._limit / self._mix.mean_image_steps
        return poisson(self._mix, per_s=per_s, seconds=seconds, seed=seed)

    def _seed(self, load: str, repeat: int) -> int:
        """One trace for all contenders, another for each load and repeat."""
        return self._plan.seed * 10_000 + repeat * 10 + self._plan.loads.index(load)

    # ---- the model alone

    def _set_up(self) -> tuple[float, AloneTimes]:
        """(image-steps per second that loads are shares of, alone-times), measured once."""
        if not self._log.find("setup"):
            ends = (min(self._plan.steps), max(self._plan.steps))
            found = {"limits": self._limits(), "alone": alone_rows(self._model, self._mix.counts, ends)}
            self._log.add("setup", plan=self._plan.same_runs(), **found)
        (found,) = self._log.find("setup")
        print("bare U-Net, image-steps/s by batch size:", found["limits"], flush=True)
        return max(found["limits"].values()), AloneTimes.of(found["alone"])

    def _limits(self) -> dict[int, float]:
        return limits(self._model, self._plan.sizes, self._plan.bare_s)


def _replay(server: Server, sending: Callable[[Send], Awaitable[Result]]) -> Result:
    async def main() -> Result:
        async with server.connect() as send:
            return await sending(send)

    return asyncio.run(main())


def line_of(run: ServingRun) -> str:
    """One run at a glance."""
    p95 = percentile([run], 95)
    return (
        f"{run.contender:<12}{run.load:<11} repeat {run.repeat}: {len(run.answers):4} requests, "
        f"{run.unanswered:3} unanswered, {rate([run], image_steps):7.1f} image-steps/s, "
        f"{rate([run], good_images):6.2f} good images/s, p95 {'-' if p95 is None else f'{p95:.2f} s'}"
        + "".join(f"\n    {error}" for error in run.errors)
    )
