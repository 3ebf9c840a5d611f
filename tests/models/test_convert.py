from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPModel, CLIPTokenizer

from tests.helpers.models import CPU
from zsas.errors import ZsasError
from zsas.models import convert as converting
from zsas.models.convert import convert
from zsas.models.loaders import load_clip
from zsas.models.vocabulary import from_vocabulary, tokenizer_files

open_clip = pytest.importorskip("open_clip")

VISION = {"image_size": 80, "layers": 3, "width": 128, "patch_size": 16}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def model_of_open_clip(quick_gelu: bool = False, **vision: Any) -> Any:
    """One of open_clip's own models with random weights, biases and norms, too."""
    torch.manual_seed(0)
    from open_clip.model import CLIP

    model = CLIP(32, {**VISION, **vision}, TEXT, quick_gelu=quick_gelu).eval()
    for parameter in model.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, mean=0.5, std=0.2)
    return model


def save(model: Any, file: Path, quick_gelu: bool | None = False) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    if file.suffix == ".safetensors":
        save_file(state, file)
    else:
        torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, file)
    if quick_gelu is not None:
        config = {
            "model_cfg": {
                "embed_dim": 32,
                "quick_gelu": quick_gelu,
                "vision_cfg": VISION,
                "text_cfg": TEXT,
            }
        }
        file.with_name("open_clip_config.json").write_text(json.dumps(config))
    return file


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("quick_gelu", [False, True])
def test_both_towers_are_open_clips(tmp_path, suffix, quick_gelu):
    theirs = model_of_open_clip(quick_gelu)
    made = convert(save(theirs, tmp_path / f"in/model{suffix}", quick_gelu), tmp_path / "out")
    assert made.activation == ("quick_gelu" if quick_gelu else "gelu")
    ours = CLIPModel.from_pretrained(tmp_path / "out").eval()
    pixels = torch.randn(2, 3, 80, 80)
    words = open_clip.get_tokenizer("ViT-B-32")(["a photo of a cat", "a cropped photo of a gear."])
    with torch.inference_mode():
        image = ours.visual_projection(ours.vision_model(pixels).pooler_output)
        text = ours.text_projection(ours.text_model(words).pooler_output)
        torch.testing.assert_close(image, theirs.encode_image(pixels), rtol=0, atol=1e-5)
        torch.testing.assert_close(text, theirs.encode_text(words), rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.logit_scale, theirs.logit_scale)


@pytest.mark.slow
def test_the_converted_folder_is_a_clip_for_this_program(tmp_path):
    convert(save(model_of_open_clip(), tmp_path / "in/model.safetensors"), tmp_path / "out")
    clip = load_clip(
        str(tmp_path / "out"), name="x", wanted_for="tiny", device=CPU, precision="fp32"
    )
    assert (clip.activation, clip.depth, clip.width, clip.projection) == ("gelu", 3, 128, 32)


@pytest.mark.slow
def test_the_tokenizer_is_open_clips(tmp_path):
    """Built from the list of merges alone, for every sentence of our text ensemble and some odd ones."""
    vocabulary = Path(open_clip.__file__).with_name("bpe_simple_vocab_16e6.txt.gz")
    for name, data in from_vocabulary(vocabulary).items():
        (tmp_path / name).write_bytes(data)
    ours = CLIPTokenizer.from_pretrained(tmp_path)
    assert len(ours) == 49_408
    theirs = open_clip.get_tokenizer("ViT-B-32")
    prompts = json.dumps(
        json.loads((Path(converting.__file__).parents[1] / "prompts.json").read_text())
    )
    odd = ["A Metal_Nut, 3.5 mm!", "it's über-fine (№ 7)"]
    sentences = [*re.findall(r'"([^"]{3,})"', prompts), *odd]
    assert len(sentences) > 30
    for sentence in sentences:
        wanted = theirs([sentence])[0]
        ids = ours(sentence, padding="max_length", max_length=77, truncation=True)["input_ids"]
        end = ids.index(49_407) + 1
        assert ids[:end] == wanted[:end].tolist(), sentence
        assert not wanted[end:].any()


@pytest.mark.slow
def test_the_shape_of_the_model_of_winclip_says_its_activation(tmp_path, monkeypatch):
    theirs = model_of_open_clip(image_size=240, width=896, layers=1)
    file = save(theirs, tmp_path / "in/model.safetensors", quick_gelu=None)
    with pytest.raises(ZsasError, match="activation of these weights is gelu"):
        convert(file, tmp_path / "out", activation="quick_gelu")
    made = convert(file, tmp_path / "out")
    assert made.activation == "gelu"
    assert "e31 under both names" in made.note
    config = CLIPModel.config_class.from_pretrained(tmp_path / "out").vision_config
    assert (config.num_attention_heads, config.intermediate_size) == (14, 3584)
    for digest, words in (("_E31", "which WinCLIP and SDP use"), ("_E32", "figures of WinCLIP")):
        monkeypatch.setattr(converting, digest, "")
        assert words in converting._note(
            file, CLIPModel.config_class.from_pretrained(tmp_path / "out")
        )
        monkeypatch.setattr(converting, digest, "none")


@pytest.mark.parametrize(
    ("width", "heads"), [(1280, 16), (1408, 16), (1664, 16), (1024, 16), (768, 12)]
)
def test_heads_are_counted_as_open_clip_counts_them(width, heads):
    shapes = {
        "visual.conv1.weight": (width, 3, 14, 14),
        "visual.positional_embedding": (257, width),
        "visual.proj": (width, 512),
        "visual.transformer.resblocks.0.mlp.c_fc.bias": (width * 4,),
        "token_embedding.weight": (49408, 512),
        "positional_embedding": (77, 512),
        "transformer.resblocks.0.mlp.c_fc.bias": (2048,),
    }
    state = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    config = converting.config_of(state, "gelu")
    assert config.vision_config.num_attention_heads == heads
    assert config.vision_config.image_size == 224
    assert config.text_config.num_attention_heads == 8


def without(name):
    return lambda state: {key: value for key, value in state.items() if key != name}


def beside(name):
    return lambda state: {**state, name: torch.zeros(3)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            without("visual.ln_post.bias"),
            "lacks 1 weights, for example vision_model.post_layernorm",
        ),
        (
            beside("visual.transformer.resblocks.0.ls_1.gamma"),
            "has, beside those of a plain CLIP, 1",
        ),
        (beside("visual.ln_post.bias"), "has another shape of 1"),
        (without("visual.conv1.weight"), "no CLIP with two transformer towers"),
        (lambda _: {"visual.trunk.stem.weight": torch.zeros(3)}, "ResNets, timm towers"),
    ],
)
def test_another_kind_of_model_is_refused(tmp_path, change, words):
    state = {k: v.contiguous() for k, v in change(model_of_open_clip().state_dict()).items()}
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(ZsasError, match=words):
        convert(tmp_path / "model.safetensors", tmp_path / "out", activation="gelu")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("vision_cfg", "timm_model_name", "vit"),
        ("text_cfg", "pool_type", "eos"),
        ("model_cfg", "custom_text", True),
    ],
)
def test_a_config_that_asks_for_more_is_refused(tmp_path, section, name, value):
    file = save(model_of_open_clip(), tmp_path / "model.safetensors")
    path = tmp_path / "open_clip_config.json"
    content = json.loads(path.read_text())
    (content["model_cfg"] if section == "model_cfg" else content["model_cfg"][section])[name] = (
        value
    )
    path.write_text(json.dumps(content))
    with pytest.raises(ZsasError, match=f"asks for {section}.{name}"):
        convert(file, tmp_path / "out")


def test_pixels_of_another_mean_are_refused(tmp_path):
    file = save(model_of_open_clip(), tmp_path / "model.safetensors")
    path = tmp_path / "open_clip_config.json"
    path.write_text(
        json.dumps({**json.loads(path.read_text()), "preprocess_cfg": {"mean": [0.5] * 3}})
    )
    with pytest.raises(ZsasError, match="normalises pixels"):
        convert(file, tmp_path / "out")


@pytest.mark.slow
def test_an_activation_is_never_guessed(tmp_path):
    file = save(model_of_open_clip(), tmp_path / "model.safetensors", quick_gelu=None)
    with pytest.raises(ZsasError, match="does not say which activation"):
        convert(file, tmp_path / "out")
    with pytest.raises(ZsasError, match="must be gelu or quick_gelu"):
        convert(file, tmp_path / "out", activation="relu")
    assert convert(file, tmp_path / "out", activation="quick_gelu").activation == "quick_gelu"
    with pytest.raises(ZsasError, match="holds a model already"):
        convert(file, tmp_path / "out", activation="quick_gelu")


def test_a_file_that_is_damaged_or_runs_code_is_refused(tmp_path):
    class Harm:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    torch.save({"state_dict": {"logit_scale": Harm()}}, tmp_path / "harm.pt")
    (tmp_path / "cut.safetensors").write_bytes(b"half")
    for name in ("harm.pt", "cut.safetensors"):
        with pytest.raises(ZsasError, match=f"{name} cannot be read"):
            convert(tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "harm").exists()
    with pytest.raises(ZsasError, match="There is no file"):
        convert(tmp_path / "none.pt", tmp_path / "out")


def test_a_tokenizer_is_found_or_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr("zsas.models.vocabulary._open_clips_vocabulary", lambda: None)
    monkeypatch.setattr("zsas.models.vocabulary._cached_clip", lambda: None)
    file = tmp_path / "in" / "model.safetensors"
    file.parent.mkdir()
    with pytest.raises(ZsasError, match="There is no tokenizer beside the file"):
        tokenizer_files(file, None, 3)
    (file.parent / "vocab.json").write_text('{"a": 0, "b": 1}')
    (file.parent / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(ZsasError, match="knows 2 words, but the model was trained with 3"):
        tokenizer_files(file, None, 3)
    assert set(tokenizer_files(file, None, 2)) == {"vocab.json", "merges.txt"}
    wrong = tmp_path / "list.txt.gz"
    wrong.write_bytes(b"no gzip")
    with pytest.raises(ZsasError, match="is no list of merges"):
        tokenizer_files(file, wrong, 2)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ZsasError, match="There is no tokenizer in"):
        tokenizer_files(file, tmp_path / "empty", 2)


@pytest.mark.slow
def test_the_command_says_what_it_made(tmp_path):
    from typer.testing import CliRunner

    from zsas.cli import app

    file = save(model_of_open_clip(), tmp_path / "in/model.safetensors")
    done = CliRunner().invoke(app, ["models", "convert", str(file), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "activation gelu" in done.output
    assert (tmp_path / "out" / "vocab.json").is_file()
