"""Where the inference worker's NLU models come from, and whether one may take another's place.

An artefact is taken only from below a bot's own folder or one that the operator allows (`nlu.model_dirs`): a token must
not read the disk. It is read whole and checked (`nlu.artefact`), its encoder is the one trained on (`nlu.engine`), and
it fits the bot: the same language, every intent that the flow waits for, and every slot of the present model that the
flow reads.

What was loaded while calls ran is written down beside the inference socket, and so outlives a worker that dies, but not
`serve`: that begins with the bots' own models.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dialogue.bots import Bot, LargerModel
from dialogue.flow import ANY_INTENT
from gateway.inference.model_commands import ModelAction, ModelAdministration, ModelCommand, ModelError, ModelFault
from gateway.inference.model_serving import NluModel
from gateway.settings import NluSettings
from nlu.engine import NluEngine
from nlu.meaning import OUT_OF_SCOPE, NluError
from nlu.pool import VersionState, VersionStatus

__all__ = ["BotModels", "ChoiceRecord", "misfits"]

log = logging.getLogger(__name__)


class BotModels:
    """Loads the models of these bots."""

    def __init__(self, bots: Iterable[Bot], settings: NluSettings) -> None:
        self._bots = {bot.name: bot for bot in bots if bot.nlu_path is not None}
        self._settings = settings
        own = [folder for bot in self._bots.values() for folder in (bot.directory, bot.nlu_path) if folder is not None]
        self._allowed = [folder.resolve() for folder in (*settings.model_dirs, *own)]

    def first(self) -> dict[str, NluEngine]:
        """Each bot's own model, warm; bots that name the same artefact share one engine.

        Raises:
            NluError: one cannot be used.
        """
        engines: dict[Path, NluEngine] = {}
        models: dict[str, NluEngine] = {}
        for bot in self._bots.values():
            assert bot.nlu_path is not None
            path = bot.nlu_path.resolve()
            if path not in engines:
                engines[path] = self._load(path)
                engines[path].warm_up()
            models[bot.name] = engines[path]
            for misfit in misfits(bot, models[bot.name], None):
                log.warning("bot %s: %s", bot.name, misfit)
        return models

    def larger(self) -> dict[str, tuple[NluEngine, LargerModel]]:
        """The larger models of the bots that have one, warm, and when they are asked.

        Raises:
            NluError: one cannot be used, or does not fit its bot.
        """
        models: dict[str, tuple[NluEngine, LargerModel]] = {}
        engines: dict[Path, NluEngine] = {}
        for bot in self._bots.values():
            if (larger := bot.second_opinion) is None:
                continue
            if larger.nlu_path not in engines:
                engines[larger.nlu_path] = self._load(larger.nlu_path)
                engines[larger.nlu_path].warm_up()
            if found := misfits(bot, engines[larger.nlu_path], None):
                raise NluError(f"{larger.nlu_path}: no second opinion for bot {bot.name}: {'; '.join(found)}")
            models[bot.name] = engines[larger.nlu_path], larger
        return models

    def load(self, bot: str, path: str, present: NluModel[Any]) -> NluEngine:
        """See `gateway.inference.model_serving.ModelLoader`."""
        owner = self._bots[bot]
        folder = (owner.directory / path).resolve()  # an absolute path stays as it is
        if not path or not any(folder.is_relative_to(allowed) for allowed in self._allowed):
            raise ModelError(
                ModelFault.FORBIDDEN_PATH,
                f"{path or 'no path'}: models are loaded from below the bots' own folders; "
                "allow another with the setting nlu.model_dirs",
            )
        try:
            engine = self._load(folder)
        except NluError as exc:
            raise ModelError(ModelFault.UNUSABLE, str(exc)) from exc
        if found := misfits(owner, engine, present if isinstance(present, NluEngine) else None):
            raise ModelError(ModelFault.UNUSABLE, f"{folder}: does not fit bot {bot}: {'; '.join(found)}")
        return engine

    def _load(self, folder: Path) -> NluEngine:
        return NluEngine.load(folder, self._settings.device, compute_type=self._settings.compute_type)


def misfits(bot: Bot, engine: NluEngine, present: NluEngine | None) -> list[str]:
    """Why a model cannot serve a bot: nothing where it can.

    Args:
        present: whose place it takes. Its slots that the flow reads are needed; a flow may name others too, which no
            model marks and which are read from the caller's words.
    """
    flow = bot.flow
    waited_for = {intent for table in (flow.anywhere, *(node.on for node in flow.nodes.values())) for intent in table}
    intents = sorted(waited_for - set(engine.intents) - {ANY_INTENT, OUT_OF_SCOPE})
    read = {spec.entity for spec in flow.slots.values() if not spec.variable}
    slots = sorted(read & set(present.slots if present else ()) - set(engine.slots))
    found = []
    if engine.language != bot.language:
        found.append(f"it was trained on language {engine.language!r}, the bot speaks {bot.language!r}")
    if intents:
        found.append(f"it does not know the intents {', '.join(intents)}, which the flow waits for")
    if slots:
        found.append(f"it does not mark the slots {', '.join(slots)}, which the flow reads")
    return found and [*found[:-1], f"{found[-1]}; train it on the bot's examples"]


class ChoiceRecord:
    """What was loaded while calls ran, in a file: for the worker that comes after one that died."""

    def __init__(self, path: Path, own: Mapping[str, NluModel[Any]]) -> None:
        """`own`: the bots' own models, of which nothing is written."""
        self._path = path
        self._own = {bot: model.version for bot, model in own.items()}

    def write(self, statuses: Iterable[VersionStatus]) -> None:
        """Write down what is live or on trial; the file is replaced at once."""
        chosen = [
            {"bot": s.bot, "path": s.path, "version": s.version, "share": s.share, "trial": on_trial}
            for s in statuses
            if (on_trial := s.state is VersionState.CANARY)
            or (s.state is VersionState.LIVE and s.version != self._own.get(s.bot))
        ]
        scratch = self._path.with_suffix(".new")
        try:
            scratch.write_text(json.dumps(chosen), encoding="utf-8")
            scratch.replace(self._path)
        except OSError as exc:
            log.error(
                "%s: cannot be written (%s); a worker after this one begins with the bots' own models", scratch, exc
            )

    async def restore(self, models: ModelAdministration) -> None:
        """Load again what was written; what cannot be is told in the log, and the bot's own model answers."""
        try:
            chosen = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return
        for one in sorted(chosen, key=lambda each: bool(each["trial"])):
            action = ModelAction.CANARY if one["trial"] else ModelAction.LOAD
            command = ModelCommand(
                action=action, bot=one["bot"], path=one["path"], version=one["version"], share=one["share"]
            )
            try:
                await models.administer(command)
            except ModelError as exc:
                log.error("bot %s: version %s is not loaded again: %s", command.bot, command.version, exc)
