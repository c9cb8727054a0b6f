"""A trained model at work: texts in, meanings out, many in one batch."""

from __future__ import annotations

import math
import threading
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch

from nlu.agreement import Agreement
from nlu.artefact import ArtefactError, Manifest, read_artefact
from nlu.decoding import Decoder
from nlu.encoders import find_encoder
from nlu.labels import SlotTags
from nlu.meaning import OUT_OF_SCOPE, Meaning, NluError
from nlu.model import HeadConfig, JointModel, Recurrence, SlotDecoding
from nlu.packing import pack_linears
from nlu.scope import Scope
from nlu.tokens import Line, LineReader, collate

__all__ = ["NluEngine", "compute_dtype", "pick_device"]

_WARM_UP_WORDS = (1, 4, 12, 30)
_WARM_UP_LINES = (1, 2, 4, 8)


def pick_device(name: str) -> torch.device:
    """ "auto" is CUDA where there is one, else the CPU; any other name is torch's own.

    Raises:
        NluError: a GPU was asked for, and torch sees none.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise NluError(
            f"device {name}: torch {torch.__version__} sees no GPU; set nlu.device to cpu or auto, or install a torch "
            "built for this machine's driver"
        )
    return torch.device(name)


def compute_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the hardware multiplies it; else float16 on CUDA (before Ampere), float32 on a CPU.

    A 6-layer encoder on one core, 12 tokens: float32 8.3 ms, bfloat16 4.7 ms with the same accuracy, dynamic
    int8 2.5 ms but 1.1 points of slot F1 lost.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    # The two checks are torch's own, under private names since 2.6.
    fast = device.type != "cpu" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


class NluEngine:
    """A loaded model: immutable and shared. It blocks; several threads may call it at once, each with its own batch.

    The number of threads that torch computes with is the caller's to set (`torch.set_num_threads`).
    """

    def __init__(
        self, model: JointModel, reader: LineReader, decoder: Decoder, manifest: Manifest, version: str, path: str
    ) -> None:
        """`path` is where it was loaded from."""
        self._model = model.eval()
        self._reader = reader
        self._decoder = decoder
        self._device = next(model.parameters()).device
        self._threads = threading.local()  # a CUDA stream each, so that their batches overlap
        self.name = manifest.name
        self.language = manifest.language
        self.slots = manifest.slots
        self.version = version
        self.path = path

    @classmethod
    def load(
        cls, path: Path | str, device: str = "auto", encoder: str | None = None, compute_type: str = "default"
    ) -> NluEngine:
        """Load an artefact.

        Args:
            path: its folder.
            device: "auto", "cpu", "cuda", "cuda:1", ...
            encoder: where the encoder is on this machine, if not where the artefact says.
            compute_type: of the encoder: "float32", "bfloat16", "float16", or "default" (`compute_dtype`).

        Raises:
            ArtefactError: the artefact is broken or altered, or the encoder is not the one trained on.
            EncoderError: the encoder cannot be found or read.
            NluError: there is no such device.
        """
        manifest, state, version = read_artefact(Path(path))
        files = find_encoder(encoder or manifest.encoder)
        if (found := files.sha256()) != manifest.encoder_sha256:
            raise ArtefactError(
                f"{path}: trained on encoder {manifest.encoder} with hash {manifest.encoder_sha256[:12]}, "
                f"but {files.name} here has {found[:12]}; install the one trained on, or train again"
            )
        tags = SlotTags(manifest.slots)
        try:
            scope = Scope.take_from(state)
            agreement = Agreement.take_from(state)
            head = HeadConfig(
                intents=len(manifest.intents),
                tags=tags,
                size=manifest.head_size,
                recurrence=Recurrence(manifest.recurrence),
                decoding=SlotDecoding(manifest.decoding),
            )
        except (KeyError, ValueError) as error:
            raise ArtefactError(f"{path}: not what this program trains ({error}); train again") from None
        # Built with random weights only to be replaced: 0.1 s, where torch's meta device first loads a second
        # of operator tables.
        model = JointModel(files.blank_encoder(), head)
        state |= {f"bert.{name}": tensor for name, tensor in files.read_state(layers=0).items()}
        try:
            model.load_state_dict(state, assign=True)
        except RuntimeError as error:
            raise ArtefactError(f"{path}: weights do not fit the description ({error}); train again") from None
        target = pick_device(device)
        model.to(target)
        model.bert.to(compute_dtype(target) if compute_type == "default" else getattr(torch, compute_type))
        pack_linears(model.bert)
        decoder = Decoder(
            intents=manifest.intents,
            tags=tags,
            transitions=model.head.transitions(),
            agreement=agreement,
            scope=scope.to(target) if scope else None,
            temperature=manifest.temperature,
            threshold=manifest.oos_threshold,
        )
        reader = LineReader(files.read_tokenizer(), manifest.max_tokens)
        return cls(model.requires_grad_(False), reader, decoder, manifest, version, str(path))

    @property
    def intents(self) -> tuple[str, ...]:
        """The intents it tells apart, without "oos"."""
        return self._decoder.intents

    def predict(self, texts: list[str], *, reject: bool = True) -> list[Meaning]:
        """Meanings in the order of the texts, computed as one padded batch.

        Args:
            texts: raw texts of any length; what is beyond the model's `max_tokens` is not read.
            reject: whether a text may be found out of scope (`OUT_OF_SCOPE`).

        Returns:
            Slots are in raw character offsets. A text without words is `OUT_OF_SCOPE` with score 0.
        """
        return self.predict_lines([self._reader.read(text) for text in texts], reject=reject)

    def predict_lines(self, lines: list[Line], *, reject: bool = True) -> list[Meaning]:
        """The same for lines that were read before: a batcher reads once, to count tokens and to predict."""
        worded = [line for line in lines if line.heads]
        meanings: list[Meaning] = []
        if worded:
            with torch.inference_mode(), self._stream():
                scores = self._model(collate(worded).to(self._device))
                meanings = self._decoder.decode(worded, *scores, reject=reject)
        remaining = iter(meanings)
        return [next(remaining) if line.heads else Meaning(OUT_OF_SCOPE, 0.0) for line in lines]

    def scope_scores(self, texts: list[str]) -> list[float]:
        """How much each text is in scope, as the model's threshold measures it; -inf for one without words."""
        lines = [self._reader.read(text) for text in texts]
        worded = [line for line in lines if line.heads]
        found: list[float] = []
        if worded:
            with torch.inference_mode(), self._stream():
                scores = self._model(collate(worded).to(self._device))
                found = self._decoder.scope_scores(scores.intents, scores.wordings).tolist()
        remaining = iter(found)
        return [next(remaining) if line.heads else -math.inf for line in lines]

    def _stream(self) -> AbstractContextManager[object]:
        """The calling thread's CUDA stream; nothing on a CPU."""
        if self._device.type != "cuda":
            return nullcontext()
        if not hasattr(self._threads, "stream"):
            self._threads.stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        return torch.cuda.stream(self._threads.stream)

    def read(self, text: str) -> Line:
        """What the model sees of a text: 0.1 ms."""
        return self._reader.read(text)

    def padded_tokens(self, line: Line) -> int:
        """Word pieces of a line, [CLS] and [SEP] included: a batcher's unit of cost and its bucket."""
        return len(line.ids)

    def warm_up(self, passes: int = 4) -> None:
        """Run over usual lengths and batches, so that no caller pays for allocation and kernel choice.

        Raises:
            ArtefactError: what it answers is not a number, so its weights are none.
        """
        for number in range(passes):
            words = _WARM_UP_WORDS[number % len(_WARM_UP_WORDS)]
            lines = _WARM_UP_LINES[number // len(_WARM_UP_WORDS) % len(_WARM_UP_LINES)]
            if not all(0.0 <= meaning.score <= 1.0 for meaning in self.predict(["word " * words] * lines)):
                raise ArtefactError(f"{self.path}: its scores are no numbers; train again")
