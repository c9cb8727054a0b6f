from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nlu.bert import Bert, BertConfig, from_checkpoint
from nlu.encoders import find_encoder
from nlu.labels import SlotTags
from nlu.model import HeadConfig, JointModel
from nlu.tokens import LineReader, collate

pytestmark = pytest.mark.unit


def test_states_are_those_of_transformers(encoder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.BertModel(
        transformers.BertConfig.from_pretrained(encoder, attn_implementation="eager"), add_pooling_layer=False
    ).eval()
    tensors = load_file(encoder / "model.safetensors")
    # "position_ids" and the like aside, every tensor must have found its place.
    assert theirs.load_state_dict(tensors, strict=False).missing_keys == []
    config = BertConfig.read(encoder / "config.json")
    ours = Bert(config).eval()
    ours.load_state_dict(from_checkpoint(tensors, config.num_hidden_layers))
    ids = torch.randint(config.vocab_size, (3, 11), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(11) < torch.tensor([[11], [7], [2]])
    with torch.inference_mode():
        expected = theirs(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        torch.testing.assert_close(ours(ids, mask)[mask], expected[mask], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours(ids[:1], None), expected[:1], atol=1e-5, rtol=1e-5)


def test_batches_in_bfloat16_are_near_those_in_float32_and_padding_is_not_read(encoder: Path) -> None:
    """On a CPU they take another way through attention."""
    bert = find_encoder(str(encoder)).read_encoder().eval()
    ids = torch.randint(5, 60, (3, 11), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(11) < torch.tensor([[11], [7], [2]])
    with torch.inference_mode():
        exact, exact_whole = bert(ids, mask), bert(ids, None)
        bert.to(torch.bfloat16)
        rounded, other_padding = bert(ids, mask), bert(ids * mask, mask)
        torch.testing.assert_close(rounded[mask].float(), exact[mask], atol=0.08, rtol=0.02)
        torch.testing.assert_close(bert(ids, None).float(), exact_whole, atol=0.08, rtol=0.02)
        assert torch.equal(rounded[mask], other_padding[mask])


def test_old_and_prefixed_tensor_names_are_understood(encoder: Path) -> None:
    tensors = load_file(encoder / "model.safetensors")
    old = {
        f"bert.{name}".replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): tensor
        for name, tensor in tensors.items()
    }
    new, renamed = from_checkpoint(tensors, 2), from_checkpoint(old | {"cls.bias": torch.zeros(1)}, 2)
    assert new.keys() == renamed.keys()
    assert all(torch.equal(new[name], renamed[name]) for name in new)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"model_type": "roberta"}, "model_type is 'roberta'"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
    ],
)
def test_what_is_no_plain_bert_is_named(encoder: Path, tmp_path: Path, change: dict[str, str], fault: str) -> None:
    raw = json.loads((encoder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(raw | change))
    with pytest.raises(ValueError, match=fault):
        BertConfig.read(tmp_path / "config.json")


def test_a_lines_scores_do_not_depend_on_its_batch(encoder: Path) -> None:
    """Padding is masked in the encoder and outside the packed sequence in the head."""
    files = find_encoder(str(encoder))
    reader = LineReader(files.read_tokenizer(), 64)
    model = JointModel(files.read_encoder(), HeadConfig(intents=3, tags=SlotTags(("a", "b")), size=8)).eval()
    lines = [reader.read(text) for text in ("bye", "i will pay on friday", "get me anna")]
    with torch.inference_mode():
        intents, tags, _ = model(collate(lines))
        for row, line in enumerate(lines):
            alone_intents, alone_tags, _ = model(collate([line]))
            torch.testing.assert_close(intents[row], alone_intents[0], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(tags[row, : len(line.words)], alone_tags[0], atol=1e-5, rtol=1e-5)


def test_embeddings_are_not_trained(encoder: Path) -> None:
    model = JointModel(find_encoder(str(encoder)).read_encoder(), HeadConfig(intents=3, tags=SlotTags(("a", "b"))))
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {name for name, _ in model.named_parameters() if name.startswith("bert.embeddings.")}
