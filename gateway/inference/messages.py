"""What is asked of the models and what they answer, as maps of plain values: the same over every transport.

    request   {"op": "asr", "timeout_s", "pcm": bytes, "rate", "language", "expect"}
              {"op": "nlu", "timeout_s", "model", "text", "turn": [call_id, round_id] | nil}
              {"op": "models", "timeout_s", "action", "bot", "path", "share", "version"}
              {"op": "ping"}
    answer    {"ok": {...}} | {"error": "..."} | {"error": "...", "fault": "..."}

A transport adds what it needs: whose request it is, how urgent. It carries these maps as msgpack.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import asdict, astuple
from typing import Any, Final

import numpy as np

from audio.asr import AsrJob, Expectation, Transcript
from gateway import logs
from gateway.inference.job_queue import Errand
from gateway.inference.model_commands import ModelAction, ModelAdministration, ModelCommand, ModelError, ModelFault
from gateway.inference.seam import Heard, Inference, InferenceError, TurnId, Understood
from nlu.meaning import FaqMatch, Meaning, Slot
from nlu.pool import VersionState, VersionStatus

__all__ = [
    "ATTEMPTS",
    "Answering",
    "Body",
    "administration",
    "content",
    "heard_in",
    "transcription",
    "understanding",
    "understood_in",
    "versions_in",
]

log = logging.getLogger(__name__)

Body = dict[str, Any]
"""A decoded message; goes no further than the transports."""

ATTEMPTS: Final = 2
"""Workers that may die under a request: models change nothing, so asking twice is safe, and a caller hears a late reply
rather than the end of the call. No more: it may be this very request that they die of."""


def transcription(job: AsrJob, timeout_s: float) -> Body:
    """The request for the words of one utterance."""
    return {
        "op": "asr",
        "timeout_s": timeout_s,
        "pcm": job.pcm.astype("<i2", copy=False).tobytes(),
        "rate": job.sample_rate_hz,
        "language": job.language,
        "expect": job.expect,
    }


def understanding(model: str, text: str, turn: TurnId | None, timeout_s: float) -> Body:
    """The request for the meaning of one text."""
    asked_in = None if turn is None else (turn.call_id, turn.round_id)
    return {"op": "nlu", "timeout_s": timeout_s, "model": model, "text": text, "turn": asked_in}


def administration(command: ModelCommand, timeout_s: float) -> Body:
    """The request that models be exchanged."""
    return {"op": "models", "timeout_s": timeout_s, **asdict(command)}


def content(answer: Body) -> Body:
    """What an answer holds.

    Raises:
        ModelError: a refused command.
        InferenceError: any other failure.
    """
    if "fault" in answer:
        raise ModelError(ModelFault(answer["fault"]), str(answer["error"]))
    if "error" in answer:
        raise InferenceError(str(answer["error"]))
    ok: Body = answer["ok"]
    return ok


def heard_in(body: Body) -> Heard:
    """The inverse of what `Answering` makes of a `Heard`."""
    return Heard(Transcript(**body["transcript"]), body["queue_ms"], body["compute_ms"])


def understood_in(body: Body) -> Understood:
    """The inverse of what `Answering` makes of an `Understood`."""
    faq = None if body["faq"] is None else FaqMatch(*body["faq"])
    meaning = Meaning(body["intent"], body["score"], tuple(Slot(*slot) for slot in body["slots"]), faq)
    return Understood(meaning, body["queue_ms"], body["compute_ms"], body["version"])


def versions_in(body: Body) -> list[VersionStatus]:
    """The inverse of what `Answering` makes of the loaded versions."""
    return [VersionStatus(**{**status, "state": VersionState(status["state"])}) for status in body["versions"]]


class Answering:
    """Answers requests from an `Inference` of this process."""

    def __init__(self, inference: Inference, models: ModelAdministration | None = None) -> None:
        """`models` None: commands about models are no requests here."""
        self._inference = inference
        self._models = models

    async def answer(self, body: Body, errand: Errand) -> Body:
        """The answer to one request; whatever is wrong with it or with us is told in the answer. Cancelled where nobody
        waits for it any more."""
        try:
            return {"ok": await self._operations[body["op"]](self, body, errand)}
        except ModelError as exc:
            return {"error": str(exc), "fault": exc.fault.value}
        except InferenceError as exc:
            return {"error": str(exc)}
        except (KeyError, TypeError, ValueError) as exc:
            return {"error": f"malformed request: {type(exc).__name__}"}
        except Exception as exc:  # ours: told at once rather than waited for; its message may quote a caller
            log.error("a request failed: %s", logs.where(exc))
            return {"error": f"a fault of the inference worker's: {type(exc).__name__}"}

    async def _asr(self, body: Body, errand: Errand) -> Body:
        job = AsrJob(
            pcm=np.frombuffer(body["pcm"], dtype="<i2"),
            sample_rate_hz=body["rate"],
            language=body["language"],
            expect=None if body.get("expect") is None else Expectation(body["expect"]),
        )
        heard = await self._inference.transcribe(job, timeout_s=body["timeout_s"], errand=errand)
        t = heard.transcript
        return {
            "transcript": {
                "text": t.text,
                "language": t.language,
                "avg_logprob": t.avg_logprob,
                "no_speech_prob": t.no_speech_prob,
                "gated_by": t.gated_by,
            },
            "queue_ms": heard.queue_ms,
            "compute_ms": heard.compute_ms,
        }

    async def _nlu(self, body: Body, errand: Errand) -> Body:
        turn = None if body.get("turn") is None else TurnId(*body["turn"])
        understood = await self._inference.understand(
            body["model"], body["text"], timeout_s=body["timeout_s"], errand=errand, turn=turn
        )
        meaning = understood.meaning
        return {
            "intent": meaning.intent,
            "score": meaning.score,
            "slots": [(s.name, s.text, s.start, s.end) for s in meaning.slots],
            "faq": None if meaning.faq is None else astuple(meaning.faq),
            "queue_ms": understood.queue_ms,
            "compute_ms": understood.compute_ms,
            "version": understood.version,
        }

    async def _administer(self, body: Body, errand: Errand) -> Body:
        if self._models is None:
            raise ValueError("no models to administer")
        command = ModelCommand(
            action=ModelAction(body["action"]),
            bot=body["bot"],
            path=body["path"],
            share=body["share"],
            version=body["version"],
        )
        versions = await self._models.administer(command, timeout_s=body["timeout_s"])
        return {"versions": [asdict(status) for status in versions]}

    async def _ping(self, body: Body, errand: Errand) -> Body:
        return {}

    _operations: dict[str, Callable[[Answering, Body, Errand], Awaitable[Body]]] = {
        "asr": _asr,
        "nlu": _nlu,
        "models": _administer,
        "ping": _ping,
    }
