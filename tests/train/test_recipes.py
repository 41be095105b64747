"""Each recipe, whole, on the shipped sample of the world: it learns, resumes, and what it saves loads again."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import sfumato
from sfumato.checkpoints.load import load_guide, load_pictures
from sfumato.core.schedules import CosineSchedule
from sfumato.encoders.image import sentences
from sfumato.networks.guide import Reading
from sfumato.recipes import codec, decoder, denoiser, guide, pictures_words
from sfumato.recipes.pictures_words import contrastive_loss, prepare_captioned, retrieval_at
from sfumato.train.card import add_scores, former_runs
from sfumato.train.labelled import UNKNOWN, LabelledSet, word_lists
from sfumato.train.locked import Locked, locked_codec, locked_pictures, locked_text
from sfumato.train.scenes import Labels, SceneSet, render, to_images
from sfumato.world.colours import WORDS
from sfumato.world.scene import SceneConfig
from sfumato.world.sources import open_world
from tests.tiny import tiny_bert, tiny_bert_tokenizer

QUICK = {
    "train_batch_size": 4,
    "lr_warmup_steps": 2,
    "lr_cooldown_steps": 0,
    "checkpointing_steps": 6,
    "sample_steps": 6,
    "logging_steps": 2,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the three locked parts, the codec and the picture encoder made by their recipes."""
    folder = tmp_path_factory.mktemp("base")
    tiny_bert().save_pretrained(folder / "text_encoder")
    tiny_bert_tokenizer(folder / "tokenizer").save_pretrained(folder / "tokenizer")
    codec.main(
        codec.Config(
            output_dir=folder / "codec", max_train_steps=12, width=8, scenes=40, world="sample", ema_decay=0.5, **QUICK
        )
    )
    pictures_words.main(pictures_words_config(folder))
    return folder


def pictures_words_config(folder: Path) -> pictures_words.Config:
    return pictures_words.Config(
        output_dir=folder / "pictures_words",
        text=folder,
        max_train_steps=12,
        hidden=64,
        layers=1,
        patch=16,
        scenes=40,
        world="sample",
        **QUICK,
    )


def losses(run: Path) -> list[float]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def test_the_codec_learns_and_its_latents_have_unit_variance(base: Path):
    assert losses(base / "codec")[-1] < 0.8 * losses(base / "codec")[0]
    trained = locked_codec(base / "codec" / "vae")
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    assert trained.encode(images).shape == (2, 4, 16, 16)
    assert trained.vae.config.scaling_factor != 1
    card = (base / "codec" / "vae" / "README.md").read_text()
    assert "sfumato train codec" in card and "PSNR" in card and "data hash" in card


def test_the_picture_encoder_gives_unit_vectors_of_the_text_width(base: Path):
    encoder = locked_pictures(base / "pictures_words" / "pictures")
    vectors = encoder(torch.zeros(3, 3, 64, 64))
    assert vectors.shape == (3, 32)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(3), atol=1e-5)


def test_captioned_scenes_are_computed_once_and_again_when_they_change(base: Path):
    settings = pictures_words_config(base)
    assert len(list(settings.output_dir.glob("captioned-*"))) == 1
    learned, held_out, key = prepare_captioned(settings)
    scenes = render(open_world("sample"), 0, 40, SceneConfig())
    assert torch.equal(learned.pictures, scenes.pictures)
    assert torch.equal(learned.texts, sentences(locked_text(base), scenes.captions))
    assert held_out.pictures.shape == (512, 64, 64, 3) and held_out.texts.shape == (512, 32)
    assert key in (settings.output_dir / "pictures" / "README.md").read_text()
    assert [file.stem for file in settings.output_dir.glob("captioned-*")] == [f"captioned-{key}"]
    assert prepare_captioned(replace(settings, seed=1))[2] != key
    assert len(list(settings.output_dir.glob("captioned-*"))) == 2


def test_the_picture_encoder_goes_on_with_the_same_scenes(base: Path, tmp_path: Path):
    settings = replace(pictures_words_config(base), output_dir=tmp_path)
    pictures_words.main(replace(settings, max_train_steps=6))
    prepared = [(file.name, file.stat().st_mtime_ns) for file in tmp_path.glob("captioned-*")]
    pictures_words.main(replace(settings, resume_from_checkpoint="latest"))
    assert [(file.name, file.stat().st_mtime_ns) for file in tmp_path.glob("captioned-*")] == prepared
    whole, resumed = (
        load_file(each / "pictures" / "model.safetensors") for each in (base / "pictures_words", tmp_path)
    )
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def denoiser_config(base: Path, run: Path) -> denoiser.Config:
    return denoiser.Config(
        output_dir=run,
        text=base,
        codec=base / "codec" / "vae",
        pictures=base / "pictures_words" / "pictures",
        max_train_steps=12,
        width=32,
        scenes=24,
        neighbours=2,
        world="sample",
        counts=0.2,
        **QUICK,
    )


def test_the_denoiser_trains_resumes_and_loads(base: Path, tmp_path: Path):
    settings = denoiser_config(base, tmp_path)
    denoiser.main(replace(settings, max_train_steps=6))
    denoiser.main(replace(settings, resume_from_checkpoint="latest"))
    folder = tmp_path / "emoji-00000012"
    assert (tmp_path / "samples" / "step-00000012.png").is_file()
    assert all(file.stat().st_size <= 15e6 for file in folder.rglob("*"))
    parts = sfumato.load(folder)
    pictures = sfumato.text_to_image(parts, ["a red apple"], seeds=[0], walk=sfumato.Walk(steps=2))
    assert pictures.shape == (1, 3, 64, 64) and bool(pictures.isfinite().all())
    encoder = load_pictures(folder)
    assert encoder is not None and encoder(pictures).shape == (1, 32)
    card = json.loads((folder / "training.json").read_text())
    assert card["steps"] == 12 and card["images seen"] == 48 and "--neighbours 2" in card["command"]
    add_scores(folder, {"concept top-5": "0.5 [0.4, 0.6]"})
    page = add_scores(folder, {"colour": "0.9 [0.8, 1.0]"}).read_text()
    assert "| concept top-5 | 0.5 [0.4, 0.6] |" in page and "| colour | 0.9 [0.8, 1.0] |" in page
    assert "| steps | 12 |" in page and card["command"] in page
    assert json.loads((folder / "training.json").read_text())["settings"] == card["settings"]


def test_a_denoiser_goes_on_from_the_weights_of_another(base: Path, tmp_path: Path):
    settings = replace(denoiser_config(base, tmp_path / "first"), max_train_steps=1)
    denoiser.main(settings)
    first, again = tmp_path / "first" / "emoji-00000001", tmp_path / "again"
    still = replace(settings, output_dir=again, initial=str(first), learning_rate=1e-12, weight_decay=0.0)
    denoiser.main(still)
    weights, others = (sfumato.load(each).network.unet.state_dict() for each in (first, again / "emoji-00000001"))
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    one, two = (json.loads((each / "training.json").read_text()) for each in (first, again / "emoji-00000001"))
    assert one["former runs"] == [] and [run["command"] for run in two["former runs"]] == [one["command"]]
    assert f"1. `{one['command']}`, {one['date']}, 4 images" in (again / "emoji-00000001" / "README.md").read_text()
    chain = former_runs(again / "emoji-00000001")
    assert [run["data hash"] for run in chain] == [one["data hash"], two["data hash"]]
    assert former_runs(base / "codec") == [{"weights": f"{base.name}/codec"}], "a folder without a card"
    (tmp_path / "training.json").write_text('{"steps": 3}')
    assert former_runs(tmp_path) == [{"weights": "/".join(tmp_path.parts[-2:])}], "a file of that name that is no card"
    (tmp_path / "training.json").write_text("[1]")
    assert former_runs(tmp_path) == [{"weights": "/".join(tmp_path.parts[-2:])}]
    others = {
        "unet/config.json": ("norm_num_groups", 4),
        "scheduler/scheduler_config.json": ("prediction_type", "epsilon"),
    }
    for file, (name, value) in others.items():
        other = shutil.copytree(first, tmp_path / name)
        (other / file).write_text(json.dumps({**json.loads((other / file).read_text()), name: value}))
        with pytest.raises(ValueError, match=f"computes in another way than this recipe's: {name}"):
            denoiser.main(replace(still, output_dir=tmp_path / f"from {name}", initial=str(other)))
    with pytest.raises(ValueError, match="not one of width 40"):
        denoiser.main(replace(still, output_dir=tmp_path / "wider", width=40))


def test_the_decoder_learns_and_leaves_the_latents_as_they_were(base: Path, tmp_path: Path):
    denoiser.main(replace(denoiser_config(base, tmp_path / "first"), max_train_steps=1))
    first = tmp_path / "first" / "emoji-00000001"
    settings = decoder.Config(
        output_dir=tmp_path / "run",
        initial=str(first),
        max_train_steps=12,
        scenes=24,
        world="sample",
        counts=0.2,
        walked=2,
        ema_decay=0.5,
        **QUICK,
    )
    decoder.main(replace(settings, max_train_steps=6))
    prepared = sorted((tmp_path / "run").glob("redrawn-*"))
    decoder.main(replace(settings, resume_from_checkpoint="latest"))
    assert sorted((tmp_path / "run").glob("redrawn-*")) == prepared and len(prepared) == 2
    assert losses(tmp_path / "run")[-1] < losses(tmp_path / "run")[0]
    trained, former = locked_codec(tmp_path / "run" / "vae"), locked_codec(first / "vae")
    images = to_images(render(open_world("sample"), 1, 8, SceneConfig()).pictures)
    z = former.encode(images)
    assert torch.equal(trained.encode(images), z)
    assert (trained.decode(z) - images).square().mean() < (former.decode(z) - images).square().mean()
    card = json.loads((tmp_path / "run" / "vae" / "training.json").read_text())
    assert "sfumato train decoder" in card["command"] and len(card["scores"]) == 2
    assert [run["recipe"] for run in card["former runs"]] == ["codec"], "the denoiser's checkpoint has the codec's card"
    with pytest.raises(ValueError, match="redrawn_share"):
        replace(settings, redrawn_share=1.5)


def test_the_prepared_set_is_computed_once_and_again_when_a_part_changes(base: Path, tmp_path: Path):
    settings = replace(denoiser_config(base, tmp_path), max_train_steps=1)
    denoiser.main(settings)
    first = sorted(tmp_path.glob("prepared-*"))
    denoiser.main(replace(settings, max_train_steps=2, resume_from_checkpoint="latest"))
    assert sorted(tmp_path.glob("prepared-*")) == first
    denoiser.main(replace(settings, max_train_steps=3, scenes=25, resume_from_checkpoint="latest"))
    assert len(sorted(tmp_path.glob("prepared-*"))) == 2


def test_the_guide_trains_resumes_and_loads(base: Path, tmp_path: Path):
    settings = guide.Config(
        output_dir=tmp_path,
        text=base,
        codec=base / "codec" / "vae",
        max_train_steps=12,
        width=32,
        scenes=40,
        world="sample",
        counts=0.2,
        **QUICK,
    )
    guide.main(replace(settings, max_train_steps=6))
    prepared = sorted(tmp_path.glob("labelled-*"))
    guide.main(replace(settings, resume_from_checkpoint="latest"))
    assert sorted(tmp_path.glob("labelled-*")) == prepared and len(prepared) == 2
    assert losses(tmp_path)[-1] < losses(tmp_path)[0]
    loaded = load_guide(tmp_path)
    assert loaded is not None and loaded.words["concept"][0] == "red apple" and len(loaded.words["colour"]) == 11
    level = CosineSchedule().at(torch.tensor(300.0))
    assert loaded(torch.zeros(2, 4, 16, 16), level).sentence.shape == (2, 32)
    card = json.loads((tmp_path / "guide" / "training.json").read_text())
    assert card["steps"] == 12 and "sfumato train guide" in card["command"]
    row = card["scores"]["concept top-5, held-out scenes at sigma/alpha 0, 0.5, 1, 2, 5"].split(", ")
    assert len(row) == 5 and all(0 <= float(share) <= 1 for share in row)
    assert len(card["scores"]) == 6


def test_labels_say_what_a_whole_scene_is():
    world = open_world("sample")
    singles = render(world, 0, 20, SceneConfig(singles=0, recoloured=1, pairs=0, counts=0))
    assert all(label.concept in world.names and label.colour in (*WORDS, None) for label in singles.labels)
    assert all(label.colour is None or label.colour in caption for label, caption in labelled(singles))
    pairs = render(world, 0, 5, SceneConfig(singles=0, recoloured=0, pairs=1, counts=0))
    assert all(label == Labels(None, label.style, None) for label in pairs.labels)
    counts = render(world, 0, 5, SceneConfig(singles=0, recoloured=0, pairs=0, counts=1))
    assert all(label.concept in world.names for label in counts.labels)
    assert {label.style for label in singles.labels} == set(word_lists(world)["style"])


def labelled(scenes: SceneSet) -> list[tuple[Labels, str]]:
    return list(zip(scenes.labels, scenes.captions, strict=True))


def test_images_without_a_label_add_nothing_to_the_loss():
    logits = torch.randn(3, 5)
    both = guide.label_loss(logits, torch.tensor([2, UNKNOWN, 4]))
    assert torch.allclose(both, -(logits[0].log_softmax(0)[2] + logits[2].log_softmax(0)[4]) / 3)
    assert guide.label_loss(logits, torch.full((3,), UNKNOWN)) == 0


def test_a_guide_that_is_always_right_measures_as_such():
    concepts, colours = torch.arange(6).repeat(100), torch.tensor([0, UNKNOWN, 1]).repeat(200)
    sentences = torch.nn.functional.normalize(torch.randn(600, 16), dim=1)
    data = LabelledSet(torch.zeros(600, 4, 2, 2), sentences, {"concept": concepts, "colour": colours}, "")
    parts = iter([slice(0, 512), slice(512, 600)])

    def right(x: torch.Tensor, level: object) -> Reading:
        rows = next(parts)
        one_hot = torch.nn.functional.one_hot
        shifted = one_hot((concepts[rows] + 1) % 6, 6) + 0.5 * one_hot(concepts[rows], 6)
        return Reading(sentences[rows], {"concept": shifted, "colour": one_hot(colours[rows].clamp(0), 2).float()})

    assert guide.measure(right, data, CosineSchedule().end) == {  # type: ignore[arg-type]
        "concept top-1": 0.0,
        "concept top-5": 1.0,
        "colour top-1": 1.0,
        "own caption among the nearest 1 of 512": 1.0,
        "own caption among the nearest 5 of 512": 1.0,
    }


def test_a_missing_part_names_what_makes_it(base: Path, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="sfumato train codec"):
        Locked.load(base, tmp_path / "nothing", base)
    with pytest.raises(FileNotFoundError, match="take_minilm"):
        locked_text(tmp_path)


def test_contrastive_loss_of_orthonormal_pairs():
    """log(1 + (B - 1) exp(-scale)) for matched orthonormal vectors; log B when all are alike."""
    eye, scale = torch.eye(5), torch.tensor(3.0)
    expected = torch.log(1 + 4 * torch.exp(-scale))
    assert torch.allclose(contrastive_loss(eye, eye, scale), expected)
    pictures = torch.ones(5, 5) / 5**0.5
    assert torch.allclose(contrastive_loss(pictures, eye, scale), torch.tensor(5.0).log())


def test_contrastive_loss_does_not_depend_on_order_and_clips_its_scale():
    pictures, texts = (torch.nn.functional.normalize(torch.randn(6, 8), dim=1) for _ in range(2))
    order = torch.randperm(6)
    scale = torch.tensor(5.0)
    assert torch.allclose(
        contrastive_loss(pictures, texts, scale), contrastive_loss(pictures[order], texts[order], scale)
    )
    assert contrastive_loss(pictures, texts, torch.tensor(100.0)) == contrastive_loss(
        pictures, texts, torch.tensor(1e4)
    )


def random_pairs(count: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors in float64, of pictures and of texts no two of which are alike."""
    drawn = torch.randn(2, count, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    pictures, texts = torch.nn.functional.normalize(drawn, dim=-1)
    return pictures, texts


def test_contrastive_loss_is_the_mean_of_both_directions():
    """The cross-entropies of the own text among all texts and of the own picture among all pictures, written out."""
    (pictures, texts), scale = random_pairs(), torch.tensor(5.0, dtype=torch.float64)
    raised = (scale * pictures @ texts.T).exp()
    of_texts, of_pictures = (-(raised.diag() / raised.sum(dim)).log().mean() for dim in (1, 0))
    assert abs(of_texts - of_pictures) > 0.01, "otherwise one of them alone would do"
    found = contrastive_loss(pictures, texts, scale)
    torch.testing.assert_close(found, 0.5 * (of_texts + of_pictures), rtol=0, atol=1e-12)
    torch.testing.assert_close(contrastive_loss(texts, pictures, scale), found, rtol=0, atol=1e-12)


def test_where_nothing_is_told_apart_the_temperature_has_no_gradient():
    """For matched orthonormal vectors it is d/dt log(1 + (B - 1) exp(-e^t)) instead; beyond the clip there is none."""

    def gradient(pictures: torch.Tensor, texts: torch.Tensor, temperature: float) -> float:
        learned = torch.tensor(temperature, dtype=torch.float64, requires_grad=True)
        contrastive_loss(pictures, texts, learned.exp()).backward()
        assert learned.grad is not None
        return learned.grad.item()

    eye, alike = torch.eye(5).double(), torch.full((5, 5), 5**-0.5).double()
    for pictures, texts in ((alike, eye), (eye, alike), (alike, alike)):
        assert gradient(pictures, texts, math.log(1 / 0.07)) == pytest.approx(0, abs=1e-12)
    for scale in (2.0, 5.0):
        wanted = -4 * scale / (math.exp(scale) + 4)
        assert gradient(eye, eye, math.log(scale)) == pytest.approx(wanted, rel=1e-9)
    below, beyond = (gradient(*random_pairs(), math.log(scale)) for scale in (99, 101))
    assert abs(below) > 1 and beyond == 0


def test_contrastive_loss_is_the_same_under_autocast():
    pictures, texts = (torch.nn.functional.normalize(torch.randn(6, 384), dim=1) for _ in range(2))
    plain = contrastive_loss(pictures, texts, torch.tensor(20.0))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(contrastive_loss(pictures, texts, torch.tensor(20.0)), plain, atol=1e-4)


def test_equal_captions_in_a_batch_are_all_right_answers():
    texts = torch.eye(3)[[0, 0, 1]]
    assert contrastive_loss(texts, texts, torch.tensor(50.0)) < 0.7


def test_retrieval_counts_rank_of_the_own_text():
    texts = torch.eye(4)
    pictures = torch.nn.functional.normalize(torch.eye(4) + 2 * torch.eye(4).roll(1, 1), dim=1)
    assert retrieval_at(texts, texts, 1) == 1
    assert retrieval_at(pictures, texts, 1) == 0
    assert retrieval_at(pictures, texts, 2) == 1
