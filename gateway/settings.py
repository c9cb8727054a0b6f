"""Everything that can be set, in one place: flags over environment over TOML file over the defaults here.

    voicegate serve --config voicegate.toml
    VOICEGATE_PORT=9000 VOICEGATE_LIMITS_CALLS_PER_WORKER=200 voicegate serve

`[limits] calls_per_worker` in the file is `VOICEGATE_LIMITS_CALLS_PER_WORKER` in the environment. `load` checks all
of it and names every fault at once, with its source. Nothing else in the project reads `os.environ`.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import os
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from audio.detection import DetectorSettings
from audio.endpointing import EndpointSettings
from gateway.access.origins import is_origin
from gateway.outside.trusted_hosts import is_trusted

__all__ = [
    "ApiSettings",
    "AsrSettings",
    "AssistantSettings",
    "AuthSettings",
    "ControlSettings",
    "InferenceSettings",
    "LimitSettings",
    "MonitoringSettings",
    "NluSettings",
    "PlayoutSettings",
    "RecordingSettings",
    "RedisSettings",
    "ResultSettings",
    "Settings",
    "SettingsError",
    "SpeechSettings",
    "SupervisionSettings",
    "TurnSettings",
    "TlsSettings",
    "TwilioSettings",
    "WebhookSettings",
    "load",
]

ENV_PREFIX = "VOICEGATE_"
_NO_LIST = 'is no list; write it like ["one", "another"]'
_NOT_SETTINGS = frozenset({"VOICEGATE_TOKEN"})  # `voicegate call` reads it: a caller's token, not the gateway's
_REDIS_SCHEMES = (
    "redis://", "rediss://", "unix://",
    "redis+sentinel://", "rediss+sentinel://", "redis+cluster://", "rediss+cluster://",
)  # fmt: skip
_MEDIA_URL = re.compile(r"wss?://[A-Za-z0-9.-]+(:\d{1,5})?(/[A-Za-z0-9._~/-]*)?")


class SettingsError(Exception):
    """Settings that cannot be used; the message lists every fault, one a line, with where it stands."""


class _Area(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _whole_number(value: object) -> object:
    """A Literal of numbers takes no text, and the environment has nothing else."""
    return int(value) if isinstance(value, str) and value.strip().isdecimal() else value


class LimitSettings(_Area):
    """What one peer, one call and one worker may take."""

    calls_per_worker: int = Field(1000, ge=1)
    """One more is answered 503 with Retry-After."""
    message_bytes: int = Field(256 * 1024, ge=1024)
    """A larger WebSocket message closes the call with 1009."""
    handshake_s: float = Field(5.0, gt=0)
    call_s: float = Field(3600.0, gt=0)
    """The bot takes leave of a call that lasts longer; 30 s later it is cut."""
    no_audio_s: float = Field(20.0, gt=0)
    """A call from which no audio message comes for so long is ended."""
    stalled_speech_s: float = Field(1.5, gt=0)
    """Speech whose audio stops coming, or drips, is taken to have ended after this."""
    held_prompt_s: float = Field(10.0, gt=0)
    """A prompt held for speech over it goes on after this: a noise that never ends must not silence the bot."""
    flood_s: float = Field(5.0, gt=0)
    """Audio this far ahead of the wall clock ends the call."""
    peer_faults: int = Field(20, ge=1)
    """Malformed messages a call survives."""
    drain_s: float = Field(30.0, ge=0)
    """On SIGTERM, calls get this long to end by themselves."""
    reply_s: float = Field(8.0, gt=0)
    """Longest wait for a model or the store within a turn."""
    model_wait_s: float = Field(4.0, gt=0)
    """While an utterance would wait longer than this for a model, new calls are answered 503 with Retry-After."""


class PlayoutSettings(_Area):
    """How prompts are sent."""

    ptime_ms: Annotated[Literal[10, 20, 30, 40, 60], BeforeValidator(_whole_number)] = 20
    lead_ms: int = Field(100, ge=20, le=200)
    """Audio that may wait at the peer."""


class TurnSettings(_Area):
    """Who has the turn where caller and bot meet."""

    hello_ms: int = Field(2000, ge=0)
    """A "hello?" this soon after the bot's first word is what one says on picking up, and interrupts nothing."""
    join_ms: int = Field(1500, ge=0)
    """A caller who goes on this soon after a reply began is still in the turn before: words are joined, the reply is
    withdrawn. 0: never."""
    filler_ms: int = Field(1500, ge=0)
    """A reply that takes longer than this is announced by the bot's filler. 0: never."""
    come_back_s: int = Field(900, ge=0)
    """A caller who was cut off and calls again this soon is asked whether to go on. 0: never."""


class RedisSettings(_Area):
    """Where dialogues live."""

    url: str | None = Field(None, repr=False)  # it may hold a password
    """None: an embedded Valkey is started. REDIS_URL is read too."""
    state_dir: Path | None = None
    """Keeps the embedded server's data over restarts; None: in memory only."""
    call_ttl_s: int = Field(3600, ge=60)
    patience_s: float = Field(1.0, gt=0)
    """Longest wait of a call for one answer; then Redis counts as away."""
    away_s: float = Field(60.0, ge=0)
    """Calls in progress go on without Redis for so long; then they end with the bot's `unavailable`."""
    new_calls_away: Literal["apologise", "refuse"] = "apologise"
    """New calls while Redis is away: answered, told so and ended; or refused with 503, so that the peer tries another
    gateway."""


ComputeType = Literal[
    "default", "auto", "float32", "float16", "bfloat16",
    "int8", "int8_float32", "int8_float16", "int8_bfloat16", "int16",
]  # fmt: skip


class AsrSettings(_Area):
    """The recogniser."""

    model: str = "bundled"
    """"bundled", a Whisper folder in CTranslate2 or Hugging Face form, or a hub id such as "large-v3"."""
    engine: Literal["auto", "ctranslate2", "torch"] = "auto"
    """What computes; auto: by the model's form and the machine (audio/engine_choice.py)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    compute_type: ComputeType = "default"
    """Default: int8 on a CPU (float32 with torch), float16 on CUDA. torch has float32, bfloat16 and float16."""
    threads: int = Field(1, ge=1)
    language: str | None = None
    """Language of calls that do not say; None: the bot's."""
    max_batch: int | None = Field(None, ge=1)
    """Utterances in one batch. None: 1 on a CPU, where a batch of n costs n times one and all wait for the last;
    16 on a GPU."""
    max_wait_ms: float = Field(0.0, ge=0)
    """How long an utterance may wait for others to share its batch; a few milliseconds on a GPU."""
    partials: bool = False
    """Tell the words heard so far about twice a second of speech (`transcript` with `final` false), while the engine
    has time. False: supervisors who listen in to a call see them, and nobody else."""
    speculate: bool = True
    """Transcribe and understand during the tail, so that the reply is ready when it closes."""


class NluSettings(_Area):
    """The models that understand."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    compute_type: Literal["default", "float32", "bfloat16", "float16"] = "default"
    """Of the encoder. Default: bfloat16 where the hardware multiplies it, else float16 on CUDA and float32 on a CPU."""
    engines: int = Field(1, ge=1, le=64)
    """Batches of one model that run side by side: threads, and streams on CUDA."""
    max_batch: int = Field(32, ge=1)
    max_padded_tokens: int | None = Field(None, ge=1)
    """Longest text x texts of a batch. None: 512 on a CPU, where that takes 0.1 s; 16384 on CUDA."""
    max_wait_ms: float | None = Field(None, ge=0)
    """How long a text may wait for others while an engine is free. None: 0 on a CPU, 2 on CUDA."""
    model_dirs: tuple[Path, ...] = ()
    """Folders below which artefacts may be loaded while calls run, besides the bots' own."""
    retire_after_s: float = Field(30.0, ge=0)
    """A version that was replaced is unloaded after so long without a request."""


class InferenceSettings(_Area):
    """How calls and models find each other."""

    seam: Literal["socket", "streams"] = "socket"
    """socket: an inference worker of this gateway's own. streams: inference workers of any host, over redis.url."""
    workers: int = Field(1, ge=0, le=16)
    """Inference workers of this gateway. Several, or none where other hosts have them: only over streams."""
    pool: str = Field("default", pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    """Gateways and inference workers of one pool work for each other: one for each set of bots and models."""
    shards: int = Field(1, ge=1, le=64)
    """Streams over which gateway workers are spread: as many as a cluster has primaries. Everywhere the same."""
    dead_after_s: float = Field(3.0, ge=0.5, le=60)
    """An inference worker that gives no sign for so long is dead: others do its jobs."""
    queue_entries: int = Field(1024, ge=16)
    """Entries that may wait in one stream; one more is refused."""


class SpeechSettings(_Area):
    """The bot's voice."""

    engine: str = "espeak"
    """"espeak", or the http(s) address of a synthesis service (tts_stub/http_engine.py)."""
    cache_bytes: int = Field(256 * 1024 * 1024, ge=1024 * 1024)
    timeout_s: float = Field(5.0, gt=0)


class AuthSettings(_Area):
    """Who may connect. With neither secret nor tokens nor key set, only loopback is served."""

    secret: SecretStr | None = Field(None, repr=False)
    """Signs and checks tokens (`voicegate token`)."""
    tokens: tuple[SecretStr, ...] = Field((), repr=False)
    """Fixed tokens, for peers that cannot renew one."""
    jwks: str | None = None
    """Key set (RFC 7517) of an identity provider whose RS256 tokens are good here: an https address or a file."""
    issuer: str | None = None
    """`iss` that the provider's tokens must have."""
    audience: str | None = None
    """`aud` that the provider's tokens must have."""
    trusted_networks: tuple[str, ...] = ()
    """Networks (10.0.0.0/8) whose peers may place calls without a token."""
    origins: tuple[str, ...] = ()
    """Web pages (https://desk.example.com) that may open the media port without a token, beside the gateway's own."""


class TlsSettings(_Area):
    """A certificate for the media port; without one it speaks plain ws://."""

    certificate: Path | None = None
    """PEM file with the whole chain; read again when it changes."""
    key: Path | None = None
    """PEM file of its key, without a password."""


class ControlSettings(_Area):
    """The control port; without a certificate it speaks plain http://."""

    tls_certificate: Path | None = None
    """PEM file with the whole chain; read again when it changes. It may be the media port's."""
    tls_key: Path | None = None
    """PEM file of its key, without a password."""
    media_url: str | None = None
    """ws(s) address under which browsers reach the media port, without the path, where a proxy or a mapped port hides
    it. None: the host that the page was asked for, and `port`."""


class TwilioSettings(_Area):
    """A Twilio account whose calls come here."""

    account_sid: str | None = None
    """With it and the token the bot ends and transfers calls over Twilio's REST API."""
    auth_token: SecretStr | None = Field(None, repr=False)
    """Checks X-Twilio-Signature on /twilio."""
    public_url: str | None = None
    """wss address that Twilio was given, without the path, where a proxy hides it from us."""
    api_url: str = "https://api.twilio.com"
    timeout_s: float = Field(5.0, gt=0)
    """Longest wait for one REST request."""


class WebhookSettings(_Area):
    """Requests to your systems that flows make, and the posting of call records."""

    hosts: tuple[str, ...] = ()
    """Hosts, or host:port, that may be asked; all others are not."""
    secret: SecretStr | None = Field(None, repr=False)
    """Signs requests, so that the receiver knows them (`X-Voicegate-Signature`)."""
    timeout_s: float = Field(3.0, gt=0)
    """Longest wait for one answer, where the flow says nothing."""
    retries: int = Field(2, ge=0, le=5)
    """Tries after the first, where the flow says nothing."""
    total_s: float = Field(8.0, gt=0)
    """Longest that all tries of one request may take: the caller waits."""
    concurrency: int = Field(16, ge=1, le=256)
    """Requests of one worker at once; others wait within their time."""


class AssistantSettings(_Area):
    """The second track: models that bots ask where neither intent nor FAQ answers."""

    hosts: tuple[str, ...] = ()
    """Hosts, or host:port, that may be asked; all others are not."""
    api_key: SecretStr | None = Field(None, repr=False)
    """Sent to them as a bearer token."""
    timeout_s: float = Field(5.0, gt=0)
    """Longest that one answer may stream; how long a caller waits for it is the bot's `wait_ms`."""
    concurrency: int = Field(32, ge=1)
    """Answers that one worker waits for at once; no more are asked for."""


class ResultSettings(_Area):
    """Where call records go: what came of every call, once."""

    stream: str = "vg:{results}:stream"
    """Redis stream; in a cluster its name must keep the hash tag {results}."""
    stream_length: int = Field(100_000, ge=1)
    """Records kept there, about."""
    webhook: str | None = None
    """Address to which records are posted; its host must be among webhooks.hosts."""
    post_for_s: float = Field(86_400.0, gt=0)
    """How long a record is tried to be posted."""


class MonitoringSettings(_Area):
    """Where calls' events go besides to those who watch, and what is hidden in them."""

    redact_amounts: bool = False
    """Hide sums of money too, not only numbers and addresses."""
    stream: str | None = None
    """Redis stream that gets every event of every call, redacted."""
    stream_length: int = Field(100_000, ge=1)
    """Events kept there, about."""
    webhook: str | None = None
    """Address to which events are posted in batches, redacted; its host must be among webhooks.hosts."""
    traces: str | None = None
    """OpenTelemetry collector that gets a trace of every turn, OTLP over HTTP; needs the extra `otel`."""


class RecordingSettings(_Area):
    """Which calls are recorded, where, and for how long."""

    bots: tuple[str, ...] = ()
    """Names of bots whose calls are recorded; none unless named."""
    directory: Path | None = None
    """Folder of the recordings; made if absent, readable by this user alone."""
    keep_days: float = Field(30.0, gt=0)
    """A recording is removed after this."""
    consent: Literal["metadata", "announced"] = "metadata"
    """metadata: only calls whose metadata say `recording_consent` yes. announced: all, since the bot says so."""


class ApiSettings(_Area):
    """What one request to the HTTP API, and all of them together, may take."""

    body_bytes: int = Field(64 * 1024, ge=1024)
    """A larger body is answered 413; of every route of the control port."""
    text_chars: int = Field(2000, ge=1)
    """A longer text or query is answered 422."""
    requests_per_s: float = Field(1000.0, gt=0)
    """Of one identity; it may save up two seconds' worth. One more is answered 429 with Retry-After."""
    concurrency: int = Field(256, ge=1)
    """Requests worked on at once; one more is answered 503 with Retry-After."""
    timeout_s: float = Field(10.0, gt=0)
    """From the first byte of a request's body to its answer; then 504."""


class SupervisionSettings(_Area):
    """How `serve` watches its processes."""

    hang_s: float = Field(10.0, ge=1)
    """A process whose event loop gives no sign of life for so long is killed and replaced."""
    inference_hang_s: float = Field(4.0, ge=1)
    """The same for inference, sooner: calls wait `limits.reply_s` for it, and its successor has to load the models."""
    engine_hang_s: float = Field(60.0, ge=5)
    """An inference process whose recogniser has not come to the end of one batch within this hangs, too: a GPU that
    does not answer. Longer than the longest utterance takes there."""
    start_s: float = Field(600.0, ge=5)
    """A process that does not come up within this is killed and tried again; models may have to be fetched."""
    longest_pause_s: float = Field(30.0, ge=0.1)
    """Cap of the pause, doubled with every death, before a process that dies at once is started again."""


class Settings(_Area):
    """The whole. Frozen; every part is handed to who needs it."""

    host: str = "127.0.0.1"
    port: int = Field(8765, ge=0, le=65535)
    control_port: int = Field(8080, ge=0, le=65535)
    workers: int = Field(1, ge=0, le=256)
    """Gateway worker processes. None where a host is for inference alone, over streams."""
    bot: str = "bill-reminder"
    """Bot of a call that names none: a bundled one or a directory."""
    bots: tuple[str, ...] = ("bill-reminder-zh", "load")
    """More bots to load; a call may name any loaded one."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"
    limits: LimitSettings = LimitSettings()  # type: ignore[call-arg]  # the defaults are the pydantic fields'
    playout: PlayoutSettings = PlayoutSettings()  # type: ignore[call-arg]
    turns: TurnSettings = TurnSettings()  # type: ignore[call-arg]
    redis: RedisSettings = RedisSettings()  # type: ignore[call-arg]
    asr: AsrSettings = AsrSettings()  # type: ignore[call-arg]
    nlu: NluSettings = NluSettings()  # type: ignore[call-arg]
    inference: InferenceSettings = InferenceSettings()  # type: ignore[call-arg]
    speech: SpeechSettings = SpeechSettings()  # type: ignore[call-arg]
    auth: AuthSettings = AuthSettings()  # type: ignore[call-arg]
    tls: TlsSettings = TlsSettings()
    control: ControlSettings = ControlSettings()
    twilio: TwilioSettings = TwilioSettings()  # type: ignore[call-arg]
    webhooks: WebhookSettings = WebhookSettings()  # type: ignore[call-arg]
    assistant: AssistantSettings = AssistantSettings()  # type: ignore[call-arg]
    results: ResultSettings = ResultSettings()  # type: ignore[call-arg]
    monitoring: MonitoringSettings = MonitoringSettings()  # type: ignore[call-arg]
    recording: RecordingSettings = RecordingSettings()  # type: ignore[call-arg]
    api: ApiSettings = ApiSettings()  # type: ignore[call-arg]
    supervision: SupervisionSettings = SupervisionSettings()  # type: ignore[call-arg]
    detector: DetectorSettings = DetectorSettings()
    endpointing: EndpointSettings = EndpointSettings()

    @property
    def all_bots(self) -> tuple[str, ...]:
        """The default bot first, each once."""
        return tuple(dict.fromkeys((self.bot, *self.bots)))

    @property
    def requires_authentication(self) -> bool:
        """Whether callers must show a token."""
        return self.auth.secret is not None or bool(self.auth.tokens) or self.auth.jwks is not None

    def dump_json(self) -> str:
        """For a child process: secrets in the clear, so the file is 0600 and short-lived."""
        return json.dumps(self.model_dump(), default=_reveal)


def _reveal(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def load(
    *,
    config: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    flags: Mapping[str, Any] | None = None,
) -> Settings:
    """Settings from all their sources.

    Args:
        config: TOML file; None: none is read.
        environ: the environment.
        flags: values by dotted name ("redis.url"); None values are taken as not given.

    Raises:
        SettingsError: with every fault of every source.
    """
    faults: list[str] = []
    merged: dict[str, Any] = {}
    source: dict[str, str] = {}
    for path, value, where in (
        *_from_file(config, faults),
        *_from_environment(environ, faults),
        *((name, value, _flag(name)) for name, value in (flags or {}).items() if value is not None),
    ):
        if not _known(path):
            faults.append(f"{where}: no such setting{_suggest(path)}")
            continue
        source[path] = where
        table = merged
        *groups, leaf = path.split(".")
        for group in groups:
            table = table.setdefault(group, {})
        table[leaf] = value
    try:
        settings = Settings.model_validate(merged)
    except ValidationError as exc:
        for error in exc.errors():
            path = ".".join(str(part) for part in error["loc"])
            where = _where(path, source)
            given = error.get("input")
            shown = f" (given: {given!r})" if isinstance(given, str | int | float) and not _is_secret(path) else ""
            what = _NO_LIST if error["type"] == "tuple_type" else error["msg"]
            faults.append(f"{where}: {what}{shown}")
        # What the sound values say together is told in the same breath.
        settings = Settings.model_validate(_without(merged, [error["loc"] for error in exc.errors()]))
    faults += _cross_checks(settings)
    if faults:
        raise SettingsError("\n".join(faults))
    return settings


def _without(tables: dict[str, Any], faulty: Sequence[tuple[int | str, ...]]) -> dict[str, Any]:
    """The values that no fault stands at; of an area whose values do not go together, none."""
    kept: dict[str, Any] = {}
    for name, value in tables.items():
        here = [path for path in faulty if path[0] == name]
        if not here:
            kept[name] = value
        elif isinstance(value, dict) and (name,) not in here:
            bad = {path[1] for path in here}
            kept[name] = {leaf: inner for leaf, inner in value.items() if leaf not in bad}
    return kept


def _cross_checks(settings: Settings) -> list[str]:
    faults = []
    try:
        loopback = settings.host == "localhost" or ipaddress.ip_address(settings.host).is_loopback
    except ValueError:
        loopback = True  # as far as is known
        faults.append(f"host: {settings.host!r} is not an IP address; use 127.0.0.1, or 0.0.0.0 for all")
    if not loopback and not (settings.requires_authentication or settings.auth.trusted_networks):
        faults.append(
            f"host: {settings.host} can be reached by others, and no authentication is set; "
            "set VOICEGATE_AUTH_SECRET (make one: openssl rand -hex 32) and hand out tokens with `voicegate token`"
        )
    if settings.port and settings.port == settings.control_port:
        faults.append(f"control_port: {settings.control_port} is the media port too; give it another")
    if settings.redis.url is not None and not settings.redis.url.startswith(_REDIS_SCHEMES):
        faults.append(f"redis.url: must begin with one of {', '.join(_REDIS_SCHEMES)}")
    scheme, _, rest = (settings.redis.url or "").partition("://")
    if scheme.endswith("+sentinel") and not rest.partition("/")[2].strip("/"):
        faults.append("redis.url: name the service that the Sentinels watch: redis+sentinel://HOST:26379/SERVICE")
    for name, address in (
        ("results.webhook", settings.results.webhook),
        ("monitoring.webhook", settings.monitoring.webhook),
    ):
        if address is not None and not _trusts(settings.webhooks.hosts, address):
            faults.append(f"{name}: its host is not among webhooks.hosts; add it there if you trust it")
    if "+cluster://" in (settings.redis.url or "") and settings.monitoring.stream is not None:
        faults.append("monitoring.stream: is not written to a cluster; leave it out, or use monitoring.webhook")
    if settings.inference.seam == "socket" and settings.inference.workers != 1:
        faults.append('inference.workers: over a socket there is one; for more or none set inference.seam to "streams"')
    if settings.workers == 0 and settings.redis.url is None:
        faults.append("redis.url: a host of inference alone meets the others there; name the Redis that they use")
    if settings.workers == 0 and settings.inference.seam == "socket":
        faults.append(
            "workers: none take calls, and none ask over a socket; for a host of inference alone set "
            'inference.seam to "streams"'
        )
    if settings.asr.engine == "torch" and settings.asr.compute_type.startswith("int"):
        faults.append(
            f"asr.compute_type: {settings.asr.compute_type} is ctranslate2's; "
            "with asr.engine torch choose float32, bfloat16 or float16"
        )
    secret = settings.auth.secret
    if secret is not None and len(secret.get_secret_value()) < 32:
        faults.append("auth.secret: shorter than 32 characters; make one: openssl rand -hex 32")
    if any(len(token.get_secret_value()) < 16 for token in settings.auth.tokens):
        faults.append("auth.tokens: a token shorter than 16 characters can be guessed; make one: openssl rand -hex 16")
    for network in settings.auth.trusted_networks:
        try:
            ipaddress.ip_network(network)
        except ValueError as exc:
            faults.append(f"auth.trusted_networks: {exc}; write it like 10.0.0.0/8")
    faults += [
        f"auth.origins: {origin!r:.80} is no origin; write scheme, host and port as browsers do: https://desk.example.com"
        for origin in settings.auth.origins
        if not is_origin(origin)
    ]
    if (settings.tls.certificate is None) != (settings.tls.key is None):
        faults.append("tls.certificate, tls.key: one without the other; set both or neither")
    faults += _control_checks(settings.control)
    faults += _twilio_checks(settings.twilio)
    if "{results}" not in settings.results.stream:
        faults.append("results.stream: must hold {results}, as vg:{results}:stream does, to work in a cluster too")
    if settings.results.webhook is not None and not settings.results.webhook.startswith(("https://", "http://")):
        faults.append("results.webhook: must begin with https://, or http:// for this machine")
    if settings.recording.bots and settings.recording.directory is None:
        faults.append("recording.bots: records only with recording.directory; set a folder that is guarded")
    if settings.monitoring.webhook is not None and not settings.monitoring.webhook.startswith(("https://", "http://")):
        faults.append("monitoring.webhook: must begin with https://, or http:// for this machine")
    if settings.webhooks.secret is not None and len(settings.webhooks.secret.get_secret_value()) < 32:
        faults.append("webhooks.secret: shorter than 32 characters; make one: openssl rand -hex 32")
    if settings.auth.jwks is not None:
        faults += _key_set_checks(settings.auth)
    elif settings.auth.issuer is not None or settings.auth.audience is not None:
        faults.append("auth.issuer, auth.audience: are for tokens of an identity provider; set auth.jwks too")
    return faults


def _control_checks(control: ControlSettings) -> list[str]:
    faults = []
    if (control.tls_certificate is None) != (control.tls_key is None):
        faults.append("control.tls_certificate, control.tls_key: one without the other; set both or neither")
    if control.media_url is not None and not _MEDIA_URL.fullmatch(control.media_url):
        faults.append(
            "control.media_url: must be ws://HOST[:PORT] or wss://HOST[:PORT], with a path of a proxy's at most"
        )
    return faults


def _twilio_checks(twilio: TwilioSettings) -> list[str]:
    faults = []
    if twilio.account_sid is not None and twilio.auth_token is None:
        faults.append("twilio.account_sid: ends calls only with twilio.auth_token; set both or neither")
    if twilio.public_url is not None and not twilio.public_url.startswith("wss://"):
        faults.append("twilio.public_url: must begin with wss://, as the address in your TwiML does")
    if not twilio.api_url.startswith("https://") and not _is_local(twilio.api_url):
        faults.append("twilio.api_url: only https:// is safe on a network: the account's token goes there")
    return faults


def _key_set_checks(auth: AuthSettings) -> list[str]:
    faults = []
    assert auth.jwks is not None
    scheme, _, rest = auth.jwks.partition("://")
    if not rest and not Path(auth.jwks).is_file():
        faults.append(f"auth.jwks: {auth.jwks} is neither an address nor a file; give an https:// address or a file")
    # Whoever can alter the set on its way can make tokens for this gateway.
    if rest and scheme != "https" and not (scheme == "http" and _is_local(auth.jwks)):
        faults.append("auth.jwks: only https:// is safe on a network; use that, or fetch the set into a file")
    if auth.issuer is None and auth.audience is None:
        faults.append(
            "auth.jwks: without auth.audience or auth.issuer, tokens that the provider made for other programs would "
            "open this gateway; set at least one of them, better both"
        )
    return faults


def _is_local(address: str) -> bool:
    return (urlsplit(address).hostname or "") in ("localhost", "127.0.0.1", "::1")


def _flag(name: str) -> str:
    return "--" + name.replace(".", "-").replace("_", "-")


def _where(path: str, source: Mapping[str, str]) -> str:
    """Where a fault at `path` stands: at a setting, at an item of its list, or anywhere in an area of several."""
    found = [
        where
        for known, where in source.items()
        if known == path or path.startswith(f"{known}.") or known.startswith(f"{path}.")
    ]
    return ", ".join(found) or path


def _trusts(hosts: Collection[str], address: str) -> bool:
    """The same as `is_trusted` for text that may be no address."""
    try:
        return is_trusted(urlsplit(address), hosts)
    except ValueError:
        return False


_Found = tuple[str, Any, str]  # dotted path, value, where it stands


def _from_file(config: Path | None, faults: list[str]) -> list[_Found]:
    if config is None:
        return []
    try:
        table = tomllib.loads(config.read_text(encoding="utf-8"))
    except OSError as exc:
        faults.append(f"{config}: cannot be read: {exc.strerror}")
        return []
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        faults.append(f"{config}: is not TOML: {exc}")
        return []
    found: list[_Found] = []
    for key, value in table.items():
        if isinstance(value, dict):
            found += [(f"{key}.{leaf}", inner, f"{config}: [{key}] {leaf}") for leaf, inner in value.items()]
        else:
            found.append((key, value, f"{config}: {key}"))
    return found


def _from_environment(environ: Mapping[str, str], faults: list[str]) -> list[_Found]:
    found: list[_Found] = []
    if environ.get("REDIS_URL"):
        found.append(("redis.url", environ["REDIS_URL"], "REDIS_URL"))
    names = {path.replace(".", "_").upper(): path for path in _all_paths()}
    for name, text in environ.items():
        if name.startswith(ENV_PREFIX) and name not in _NOT_SETTINGS and text:
            path = names.get(name.removeprefix(ENV_PREFIX), name.removeprefix(ENV_PREFIX).lower())
            is_list = path in (
                "bots",
                "auth.tokens",
                "auth.trusted_networks",
                "auth.origins",
                "nlu.model_dirs",
                "webhooks.hosts",
                "recording.bots",
                "assistant.hosts",
            )
            found.append((path, [part for part in text.split(",") if part] if is_list else text, name))
    return found


def _all_paths() -> list[str]:
    paths: list[str] = []
    for name, info in Settings.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            paths += [f"{name}.{leaf}" for leaf in kind.model_fields]
        elif is_dataclass(kind):
            paths += [f"{name}.{leaf.name}" for leaf in fields(kind)]
        else:
            paths.append(name)
    return paths


def _known(path: str) -> bool:
    return path in _all_paths()


def _is_secret(path: str) -> bool:
    """Whether a value may not be repeated, not even one that cannot be used."""
    return any(word in path for word in ("auth", "secret", "key"))


def _suggest(path: str) -> str:
    if "." not in path and any(known.startswith(f"{path}.") for known in _all_paths()):
        return f"; it is a table: its settings stand below [{path}]"
    close = difflib.get_close_matches(path, _all_paths(), n=1)
    return f"; did you mean {close[0]}?" if close else "; see `voicegate serve --help` and docs/operations.md"
