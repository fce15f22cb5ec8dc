"""A folder of Hugging Face as a member: trained on, frozen, known by its bytes, and gone when it predicts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import stackfeat as sf
from stackfeat.data.prepare.net_texts import NetFolderPrepare
from stackfeat.errors import UsageError
from stackfeat.nets.zoo.hugging_face import FolderWeights, HuggingFace, read_config
from tests.data.prepare.test_texts import table_of
from tests.pipeline.test_texts import BAD, GOOD, OTHERS, config, project

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
MEMBER = {
    "net": "hf:tiny",
    "train": {"epochs": 12, "lr": 0.01, "batch_size": 16},
    "emit": ["proba", "pooled"],
}


def write_model(folder: Path, *, with_head: bool = False, seed: int = 0) -> Path:
    """Write a tiny BERT with random weights, and a tokenizer of whole words, as their libraries save them."""
    words = {word: place for place, word in enumerate([*SPECIAL, *GOOD, *BAD, *OTHERS])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    ends = [(name, words[name]) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=ends)
    tokenizer.enable_padding(length=40)
    described = transformers.BertConfig(vocab_size=len(words), max_position_embeddings=32, **SIZES)
    torch.manual_seed(seed)
    cls = transformers.BertForSequenceClassification if with_head else transformers.BertModel
    cls(described).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def a_project(folder: Path, member: dict[str, Any], **others: Any) -> Any:
    made = project(folder, {**config(encoder=member, **others), "folds": {"n": 2}}, n_rows=120)
    write_model(folder / "tiny")
    return made


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = a_project(tmp_path_factory.mktemp("hf") / "a", MEMBER)
    said = made.run()
    assert said.code == 0, said.err
    return made


def test_an_encoder_is_trained_in_every_fold_and_tapped(ran: Any) -> None:
    board = pd.read_csv(ran.run_folder / "leaderboard.csv").set_index("member")["score"]
    assert board["encoder"] < 0.6 and "gated" in board
    written = (ran.run_folder / "config.yaml").read_text()
    assert "hf:tiny" in written and str(ran.folder) not in written
    gates = json.loads((ran.run_folder / "scores.json").read_text())
    assert "base/encoder/pooled@geometry" in json.dumps(gates)


def test_the_predictor_needs_no_folder(ran: Any, tmp_path: Path) -> None:
    moved = tmp_path / "run"
    shutil.copytree(ran.run_folder, moved)
    test = pd.read_csv(ran.folder / "test.csv")
    submitted = pd.read_csv(ran.run_folder / "submission.csv").iloc[:, -1].to_numpy()
    found = sf.load(moved).predict_proba(test)[:, 1]
    np.testing.assert_allclose(found, submitted, atol=1e-9)
    odd = test.head(3).assign(review=[None, "never known", "soft " * 500])
    assert np.isfinite(sf.load(moved).predict_proba(odd)).all()


@pytest.mark.slow
def test_the_bytes_of_the_folder_count_not_its_name(ran: Any, tmp_path: Path) -> None:
    other = ran.copy(tmp_path / "b")
    (other.folder / "tiny").rename(other.folder / "small")
    values = other.config()
    values["levels"]["base"]["encoder"]["net"] = "hf:small"
    assert "jobs computed: 0" in other.write(values).run().out
    write_model(other.folder / "small", seed=1)
    assert "jobs computed: 0" not in other.run().out


def test_a_frozen_folder_passes_its_features_on(tmp_path: Path) -> None:
    frozen = {"net": "hf:tiny", "frozen": True, "emit": [{"tap": "pooled", "encode": ["raw"]}]}
    gbm = {"estimator": "lightgbm.LGBMClassifier", "params": {"n_estimators": 5}}
    made = a_project(tmp_path / "c", frozen, gbm=gbm)
    said = made.run()
    assert said.code == 0, said.err
    assert sf.load(made.run_folder).predict_proba(pd.read_csv(made.folder / "test.csv")).shape == (60, 2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "tiny" / "model.safetensors").unlink(), "model.safetensors"),
        (lambda folder: (folder / "tiny" / "config.json").unlink(), "config.json"),
        (lambda folder: (folder / "tiny" / "tokenizer.json").unlink(), "tokenizer.json"),
    ],
)
def test_a_folder_must_be_whole(tmp_path: Path, change: Any, said: str) -> None:
    made = a_project(tmp_path / "d", MEMBER)
    change(made.folder)
    found = made.cli("check", made.folder / "c.yaml")
    assert found.code == 2 and said in found.err + found.out


def test_a_folder_must_lie_within_the_data_roots(tmp_path: Path) -> None:
    made = a_project(tmp_path / "e", {**MEMBER, "net": f"hf:{write_model(tmp_path / 'away')}"})
    found = made.cli("check", made.folder / "c.yaml")
    assert found.code == 2 and "--data-root" in found.err + found.out


def test_only_encoders_of_the_package_are_built() -> None:
    code = {
        "auto_map": {"AutoModel": "evil.Model"},
        "attn_implementation": "evil/kernels",
        "_name_or_path": "x",
    }
    found = read_config(json.dumps({"model_type": "bert", **code, **SIZES}).encode(), "config.json")
    assert found == {"model_type": "bert", **SIZES}
    with pytest.raises(UsageError, match="must describe an encoder of texts"):
        HuggingFace(1, 2, {"tokens": (1, 8)}, {"config": {"model_type": "gpt2"}})
    with pytest.raises(UsageError, match=r"must describe an encoder of texts .* got model_type='gpt2'"):
        read_config(b'{"model_type": "gpt2"}', "config.json")
    with pytest.raises(UsageError, match="must hold JSON"):
        read_config(b"{", "config.json")
    with pytest.raises(UsageError, match="quantization_config; save the model without it"):
        read_config(b'{"model_type": "bert", "quantization_config": {}}', "config.json")


def net_of(folder: Path) -> HuggingFace:
    described = read_config((folder / "config.json").read_bytes(), "config.json")
    return HuggingFace(1, 2, {"tokens": (1, 8)}, {"config": described}).eval()


@pytest.mark.parametrize("with_head", [False, True])
def test_hidden_states_are_those_of_the_library(tmp_path: Path, with_head: bool) -> None:
    folder = write_model(tmp_path / "m", with_head=with_head)
    net = net_of(folder)
    weights = FolderWeights((folder / "model.safetensors").read_bytes(), "model.safetensors")
    assert set(weights.load(net)) == {"head.weight", "head.bias"}
    prepare = NetFolderPrepare()
    prepare.tokenizer = np.frombuffer((folder / "tokenizer.json").read_bytes(), dtype=np.uint8)
    table = table_of(["lovely soft word1", "awful", "", "lovely lovely unheard"])
    prepare.fit(table)
    tokens = torch.from_numpy(prepare.tokens(table))
    with sf.tapped(net, ["pooled"]) as caught, torch.no_grad():
        net(torch.zeros(4, 1), None, tokens)
    theirs = transformers.BertModel.from_pretrained(
        folder, local_files_only=True, attn_implementation="eager"
    ).eval()
    reader = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    reader.no_padding()
    for row, text in enumerate(table.texts[:, 0]):
        ids = torch.tensor([reader.encode(text).ids])
        with torch.no_grad():
            wanted = theirs(input_ids=ids).last_hidden_state[0].mean(0) if text else torch.zeros(16)
        torch.testing.assert_close(caught["pooled"][row], wanted, atol=1e-5, rtol=1e-4)


def test_weights_of_another_encoder_are_refused(tmp_path: Path) -> None:
    net = net_of(write_model(tmp_path / "m"))
    torch.manual_seed(0)
    other = transformers.BertModel(transformers.BertConfig(vocab_size=5, **SIZES))
    other.save_pretrained(tmp_path / "other")
    data = (tmp_path / "other" / "model.safetensors").read_bytes()
    with pytest.raises(UsageError, match=r"missing or of another shape: embeddings\.word_embeddings\.weight"):
        FolderWeights(data, "model.safetensors").load(net)
    with pytest.raises(UsageError, match="must be a whole safetensors file"):
        FolderWeights(data[:100], "model.safetensors").load(net)


def test_a_damaged_tokenizer_is_named() -> None:
    prepare = NetFolderPrepare()
    prepare.tokenizer = np.frombuffer(b"{}", dtype=np.uint8)
    with pytest.raises(UsageError, match=r"tokenizer.json must hold a tokenizer"):
        prepare.fit(table_of(["a", "b"]))
