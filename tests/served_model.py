"""A model behind a local server of the OpenAI protocol, as several real servers answer for one."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.served import Answer, as_json


class ServedModel:
    """Answers chats and plain completions greedily.

    Attributes:
        tells: which log-probabilities of a plain completion it tells: `all` as vLLM does; those of
            `generated` tokens alone, as llama.cpp's server does; `none`, as `transformers serve`
            does; those of prompts `shifted` by one place, or `zeros`, as a broken one might.
    """

    def __init__(self, folder: Path, tells: str = "all") -> None:
        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.tokenizer, self.tells = AutoTokenizer.from_pretrained(folder), tells
        self._turn = threading.Lock()

    def __call__(self, body: dict[str, Any], _: int) -> Answer:
        with self._turn, torch.no_grad():
            return self._chat(body) if "messages" in body else self._plain(body)

    def _chat(self, body: dict[str, Any]) -> Answer:
        ids = self.tokenizer.apply_chat_template(
            body["messages"], add_generation_prompt=True, return_dict=True
        )["input_ids"]
        text, finish, new = self._written(ids, body)
        choice = {"message": {"role": "assistant", "content": text}, "finish_reason": finish}
        return _answer(choice, len(ids), len(new))

    def _plain(self, body: dict[str, Any]) -> Answer:
        ids = self.tokenizer(body["prompt"])["input_ids"]
        text, finish, new = self._written(ids, body)
        echoed = body["prompt"] if body.get("echo") else ""
        choice: dict[str, Any] = {"text": echoed + text, "finish_reason": finish}
        if body.get("logprobs") and self.tells != "none":
            choice["logprobs"] = self._told(ids, new, echo=bool(body.get("echo")))
        return _answer(choice, len(ids), len(new))

    def _written(self, ids: list[int], body: dict[str, Any]) -> tuple[str, str, list[int]]:
        new: list[int] = []
        while len(new) < body["max_tokens"]:
            token = int(self.model(torch.tensor([ids + new])).logits[0, -1].argmax())
            if token == self.model.config.eos_token_id:
                return self.tokenizer.decode(new), "stop", new
            new.append(token)
            text = self.tokenizer.decode(new)
            for stop in body.get("stop", ()):
                if stop in text:
                    return text.partition(stop)[0], "stop", new
        return self.tokenizer.decode(new), "length", new

    def _told(self, ids: list[int], new: list[int], *, echo: bool) -> dict[str, Any]:
        whole = ids + new
        likely = self.model(torch.tensor([whole])).logits[0].log_softmax(-1)
        told = range(0 if echo and self.tells != "generated" else len(ids), len(whole))
        moved = 1 if self.tells == "shifted" and echo else 0
        values = [
            None if place == 0 else 0.0 if self.tells == "zeros"
            else float(likely[max(place - 1 - moved, 0), whole[place]])
            for place in told
        ]  # fmt: skip
        best = [None if place == 0 else {"x": float(likely[place - 1].max())} for place in told]
        return {
            "tokens": [self.tokenizer.decode([whole[place]]) for place in told],
            "token_logprobs": values,
            "top_logprobs": best,
        }


def _answer(choice: dict[str, Any], prompt: int, completion: int) -> Answer:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion}
    return as_json({"choices": [choice], "usage": usage})
