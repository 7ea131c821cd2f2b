"""LoRA trained at a service of the Tinker protocol, by its client."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from pydantic import Field

from harness.core.component import NotHashed
from harness.core.errors import StageFailed
from harness.data.steps import AdamW, Labelled, OptimizerStep
from harness.methods._elsewhere import Elsewhere, Weights, Work

HOSTED = "https://tinker.thinkingmachines.dev/services/tinker-prod"
"""Where the client goes by default."""
_SILENT = {"TINKER_TELEMETRY": "0"}
_ABSENT = (404, 405, 501)
"""What a server answers that does not know a request."""
_CLOSING = 30.0
"""Seconds to wait for the end of a session, or fewer."""


class Tinker(Elsewhere):
    """LoRA whose forward and backward passes a service of the Tinker protocol computes: the hosted
    one, or a server of your own such as SkyRL's. Rows are rendered and tokenised here; order, batch
    size, schedule and optimizer are the objective's own options; the weights come back as a
    checkpoint like any other, and all scoring is done here.

    The state is saved at the service every `save_steps` steps: a run that was killed goes on from
    there. The key is read from the environment alone, and the client's telemetry is off.
    """

    VERSION = 1
    paper = "arXiv:2106.09685"
    requires = ("tinker",)

    base_url: str = HOSTED
    """Address of the service, such as `http://localhost:8000`."""
    api_key_env: Annotated[str | None, NotHashed] = "TINKER_API_KEY"
    """Name of the environment variable with the key, in capitals. The client wants one that begins
    with `tml-`; null sends `tml-none`, for servers without keys."""
    ttl_seconds: Annotated[int | None, NotHashed] = Field(7 * 86400, ge=3600)
    """What is saved at the service is kept for so long; null keeps it until it is deleted there."""

    def train(self, work: Work) -> Weights:
        with _telemetry_off(), _Session(self, work) as session:
            if "weights" not in work.state:
                session.through()
            return session.weights()


@contextlib.contextmanager
def _telemetry_off() -> Iterator[None]:
    """The client reads this setting in the environment; what stood there before is put back."""
    before = {name: os.environ.get(name) for name in _SILENT}
    os.environ.update(_SILENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class _Session:
    """One attempt, from the last state that an earlier one saved."""

    def __init__(self, method: Tinker, work: Work) -> None:
        import tinker

        self.method, self.work, self.tinker = method, work, tinker
        self.key = work.key or "tml-none"
        try:
            self.service = tinker.ServiceClient(base_url=method.base_url, api_key=self.key)
        except Exception as error:
            raise self._failed("no session", error) from None

    def __enter__(self) -> _Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End the session there. What was saved stays, for a later attempt."""
        closing = self.service.close("success" if kind is None else "errored")
        try:
            closing.result(timeout=min(_CLOSING, self.method.timeout))
        except TimeoutError:
            self.work.note(f"{self.method.base_url} does not answer the end of the session")
        except Exception as error:
            if getattr(error, "status_code", None) not in _ABSENT:
                self.work.note(self._failed("ending the session", error).message)

    def through(self) -> None:
        """All steps that no earlier attempt has done, and the weights saved."""
        work, done = self.work, int(self.work.state.get("step", 0))
        training = self._resumed() if done else self._begun()
        steps = work.schedule.steps
        losses = list(work.state.get("losses", ()))
        began, spent = time.monotonic(), float(work.state.get("seconds", 0.0))
        for number in range(done + 1, len(steps) + 1):
            losses.append(self._step(training, steps[number - 1]))
            work.done(number, losses[-1])
            if number % self.method.save_steps == 0 or number == len(steps):
                path = self._answer(
                    training.save_state(
                        f"step-{number}", ttl_seconds=self.method.ttl_seconds, overwrite=True
                    ),
                    f"saving the state of step {number}",
                ).path
                seconds = spent + time.monotonic() - began
                work.keep(step=number, path=path, losses=losses, seconds=seconds)
        work.keep(loss=self._loss_of(training, steps[0]), **self._saved(training))

    def weights(self) -> Weights:
        """Where the weights are to be had now."""
        state = self.work.state
        run, path = str(state["run"]), str(state["weights"])
        url, archive, files = self.method.base_url.rstrip("/"), None, {}
        if state["form"] == "archive":
            name = path.rpartition("/")[2]
            archive = f"{url}/api/v1/training_runs/{run}/checkpoints/{name}/archive"
        else:
            # It has no end of its own: the client keeps one set of connections for an address and a
            # key, for all that ask, as long as the process lives.
            rest = self.tinker.RestClient(base_url=self.method.base_url, api_key=self.key)
            files = self._answer(rest.get_external_weights_urls(path), "the weights").urls
        about = {"run": run, "weights": path}
        headers = {"X-API-Key": self.key}
        return Weights(files, archive, url, headers, state["loss"], about)

    def _begun(self) -> Any:
        method = self.method
        training = self._answer(
            self.service.create_lora_training_client(
                base_model=method.base_model or self.work.model or "",
                rank=method.r,
                seed=self.work.seed,
                train_mlp=method.train_mlp,
                train_attn=method.train_attn,
                train_unembed=method.train_unembed,
            ),
            "starting",
        )
        self.work.keep(run=training.model_id)
        return training

    def _resumed(self) -> Any:
        path, step = self.work.state["path"], self.work.state["step"]
        training = self._answer(
            self.service.create_training_client_from_state_with_optimizer(path),
            f"going on from {path}",
        )
        self.work.keep(run=training.model_id)
        self.work.note(f"goes on after step {step}, from a state saved at the service")
        return training

    def _step(self, training: Any, step: OptimizerStep) -> float:
        """Its loss: the mean of -log p over the step's labels, before the update."""
        passes = [
            training.forward_backward(self._data(rows, step.labels), "cross_entropy")
            for rows in step.passes
        ]
        update = training.optim_step(self._adam(step.learning_rate))
        loss = sum(
            _loss(self._answer(one, "a forward and backward pass"), rows, step.labels)
            for one, rows in zip(passes, step.passes, strict=True)
        )
        self._answer(update, "an optimizer step")
        return loss

    def _loss_of(self, training: Any, step: OptimizerStep) -> float:
        rows = list(step.sequences)
        told = training.forward(self._data(rows, step.labels), "cross_entropy")
        return _loss(self._answer(told, "a forward pass"), rows, step.labels)

    def _saved(self, training: Any) -> dict[str, str]:
        """The weights in a format for others, or as an older server has them."""
        ttl, step = self.method.ttl_seconds, len(self.work.schedule.steps)
        try:
            saved = training.save_weights_external(f"weights-{step}", ttl_seconds=ttl)
            return {"form": "files", "weights": saved.result(timeout=self.method.timeout).path}
        except Exception as error:
            if getattr(error, "status_code", None) not in _ABSENT:
                raise self._failed("saving the weights", error) from None
        saved = training.save_weights_for_sampler(f"weights-{step}", ttl_seconds=ttl)
        return {"form": "archive", "weights": self._answer(saved, "saving the weights").path}

    def _data(self, rows: Sequence[Labelled], labels: int) -> list[Any]:
        """The rows as the protocol has them; the sum of their losses is the step's mean."""
        types = self.tinker.types
        return [
            types.Datum(
                model_input=types.ModelInput.from_ints(list(row.ids[:-1])),
                loss_fn_inputs={
                    "target_tokens": types.TensorData(
                        data=list(row.ids[1:]), dtype="int64", shape=[len(row.ids) - 1]
                    ),
                    "weights": types.TensorData(
                        data=[float(learnt) / labels for learnt in row.learnt],
                        dtype="float32",
                        shape=[len(row.ids) - 1],
                    ),
                },
            )
            for row in rows
        ]

    def _adam(self, rate: float) -> Any:
        adam: AdamW = self.work.schedule.optimizer
        return self.tinker.types.AdamParams(
            learning_rate=rate, beta1=adam.beta1, beta2=adam.beta2, eps=adam.epsilon,
            weight_decay=adam.weight_decay, grad_clip_norm=adam.max_grad_norm,
        )  # fmt: skip

    def _answer(self, future: Any, doing: str) -> Any:
        try:
            return future.result(timeout=self.method.timeout)
        except Exception as error:
            raise self._failed(doing, error) from None

    def _failed(self, doing: str, error: Exception) -> StageFailed:
        told = str(error) or type(error).__name__
        if isinstance(error, TimeoutError):
            told = f"no answer within {self.method.timeout:g} s (the method's `timeout`)"
        return StageFailed("service", f"{self.method.base_url}, {doing}: {told}")


def _loss(told: Any, rows: Sequence[Labelled], labels: int) -> float:
    """The part of a step's loss that a pass has, from the log-probabilities of its tokens."""
    total = 0.0
    for row, output in zip(rows, told.loss_fn_outputs, strict=True):
        said = output["logprobs"].tolist()
        total -= sum(p for p, learnt in zip(said, row.learnt, strict=True) if learnt)
    return total / labels
