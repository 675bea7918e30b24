"""Networks that diffusers saved: against the library's own schedulers, and through the command."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from invdiff.errors import PluginError, WeightsError
from invdiff.guidance import Problem
from invdiff.sampler import SamplerSettings, sample
from invdiff.testing import check_prior
from invdiff.testing.subjects import ToyBlur
from invdiff_diffusers.prior import Diffusers, DiffusersSettings

WEIGHTS = "diffusion_pytorch_model.safetensors"


def read(folder, **settings):
    return Diffusers(DiffusersSettings(source=str(folder), **settings)).eval()


@pytest.fixture(scope="module")
def library():
    return pytest.importorskip("diffusers", reason="diffusers is not installed: pip install 'invdiff[diffusers]'")


@pytest.fixture(scope="module")
def make(library, tmp_path_factory):
    """Saves a random network and a scheduler as the library does; keywords change the scheduler."""

    def write(channels=3, **changes):
        folder = tmp_path_factory.mktemp("saved")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            network = library.UNet2DModel(
                sample_size=16,
                out_channels=channels,
                block_out_channels=(8, 8),
                layers_per_block=1,
                down_block_types=("DownBlock2D", "AttnDownBlock2D"),
                up_block_types=("AttnUpBlock2D", "UpBlock2D"),
                norm_num_groups=4,
                attention_head_dim=8,
            )
        network.save_pretrained(folder)
        library.DDPMScheduler(**changes).save_pretrained(folder)
        return folder

    return write


@pytest.fixture
def saved(tmp_path):
    """A folder of the right names, that needs no library to be written."""
    settings = {"_class_name": "UNet2DModel"}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    (tmp_path / "scheduler_config.json").write_text(json.dumps({"beta_schedule": "linear"}))
    save_file({"a": torch.zeros(2)}, tmp_path / WEIGHTS)
    return tmp_path


@pytest.mark.parametrize(("prediction", "clip"), [("epsilon", True), ("v_prediction", False)])
def test_conformance(make, prediction, clip):
    check_prior(read(make(prediction_type=prediction, clip_sample=clip)))


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("clip", [True, False])
def test_a_clean_image_is_the_librarys(library, make, prediction, clip):
    """At each time, what its own scheduler takes the network's answer for."""
    folder = make(
        prediction_type=prediction, clip_sample=clip, beta_schedule="squaredcos_cap_v2", num_train_timesteps=50
    )
    prior, network = read(folder), library.UNet2DModel.from_pretrained(folder).eval()
    scheduler = library.DDPMScheduler.from_pretrained(folder)
    assert len(prior.spec.schedule) == 50
    x = torch.randn(2, 3, 16, 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for time in (0, 7, 40):
            found = prior.predict(x, torch.tensor([time, time]), torch.zeros_like(x)).x0
            want = scheduler.step(network(x, time).sample, time, x).pred_original_sample
            torch.testing.assert_close(found, want, atol=1e-4, rtol=1e-4)


def test_a_whole_walk_is_the_librarys(library, make):
    """DDIM from the same noise through every time, on an odd picture's padding too."""
    folder = make(num_train_timesteps=12, beta_end=0.3, prediction_type="v_prediction", clip_sample=False)
    network, prior = library.UNet2DModel.from_pretrained(folder).eval(), read(folder)
    scheduler = library.DDIMScheduler.from_pretrained(folder, set_alpha_to_one=True)
    scheduler.set_timesteps(12)
    y = torch.rand(1, 3, 11, 16, generator=torch.Generator().manual_seed(0))
    found = sample(
        Problem(y, ToyBlur(), prior), SamplerSettings(steps=12, eta=0), [torch.Generator().manual_seed(5)]
    ).x0
    x = torch.randn(3, 12, 16, generator=torch.Generator().manual_seed(5))[None]
    with torch.no_grad():
        for time in scheduler.timesteps:
            x = scheduler.step(network(x, time).sample, time, x).prev_sample
    torch.testing.assert_close(found, (x[..., :11, :] + 1) / 2, atol=1e-4, rtol=1e-4)


def test_a_learned_variance(library, make):
    """Of six channels the last three are its place between small and large, as the library has it."""
    prior = read(make(channels=6, variance_type="learned_range"))
    x, t = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([300])
    with torch.no_grad():
        found = prior.predict(x, t, x).variance_fraction
        want = prior.network(x, t).sample[:, 3:]
    torch.testing.assert_close(found, (want + 1) / 2)
    with pytest.raises(WeightsError, match="3 channels in and 6 out"):
        read(make(channels=6))


def test_a_pipelines_folder_and_old_names(make, tmp_path):
    """``unet`` and ``scheduler`` below, and attention named as before 2023: the same network."""
    folder, old = make(), {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    (tmp_path / "unet").mkdir()
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "unet" / "config.json").write_text((folder / "config.json").read_text())
    scheduler = (folder / "scheduler_config.json").read_text()
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(scheduler)
    tensors = load_file(folder / WEIGHTS)
    renamed = {}
    for name, value in tensors.items():
        for now, before in old.items():
            name = name.replace(f".{now}.", f".{before}.")
        renamed[name] = value
    assert set(renamed) != set(tensors)
    save_file(renamed, tmp_path / "unet" / WEIGHTS)
    found = read(tmp_path).network.state_dict()
    assert {name: value.tolist() for name, value in found.items()} == {n: v.tolist() for n, v in tensors.items()}


RECIPE = """\
name: theirs
degradation: {{kind: motion, kernel_size: 15, noise_sigma: 0.01}}
prior: {{kind: diffusers, source: {source}}}
guidance:
  - {{kind: proximal, kernel: given, noise: 0.01, spread: 0.1}}
sampler: {{steps: 2}}
input: {{sample: coffee, crop: 32, synthesize: true}}
"""


def test_run(make, cli, report, tmp_path):
    """Twice the same, and the folder is in the report."""
    recipe, folder, found = tmp_path / "theirs.yaml", make(), []
    recipe.write_text(RECIPE.format(source=folder))
    for out in ("one", "two"):
        result = cli("run", recipe, "-o", tmp_path / out, "--quiet")
        assert (result.code, result.err) == (0, "")
        found.append((tmp_path / out / "coffee.png").read_bytes())
    assert found[0] == found[1]
    settings = report(tmp_path / "one", whole=True)["settings"]["prior"]
    assert settings == {"kind": "diffusers", "source": str(folder), "revision": None}


def test_tensors_that_do_not_fit(make, tmp_path):
    """Nothing is left at random: a tensor too few is an error, and so are numbers that are none."""
    folder = make()
    tensors = load_file(folder / WEIGHTS)
    first = next(iter(tensors))
    save_file({name: value for name, value in tensors.items() if name != first}, folder / WEIGHTS)
    with pytest.raises(WeightsError, match=f"weights do not fit config.json.*{first}") as caught:
        read(folder)
    assert "\n" not in str(caught.value)
    save_file({**tensors, first: tensors[first] * float("nan")}, folder / WEIGHTS)
    with pytest.raises(WeightsError, match=f"'{first}' holds numbers that are not finite"):
        read(folder)


REFUSED = {
    "network _class_name UNet2DConditionModel": "config.json is of UNet2DConditionModel",
    "network num_class_embeds 10": "class-conditional",
    "network time_embedding_type fourier": "not a variance-preserving diffusion",
    "network block_out_channels 7": "settings that the library refuses",
    "scheduler prediction_type flow": "prediction_type 'flow' is not one of epsilon, sample, v_prediction",
    "scheduler rescale_betas_zero_snr 1": "rescale_betas_zero_snr",
    "scheduler beta_schedule bent": "settings that the library refuses",
}


@pytest.mark.parametrize("change", REFUSED)
def test_what_would_be_half_understood(library, saved, change):
    part, key, value = change.split()
    file = saved / ("config.json" if part == "network" else "scheduler_config.json")
    settings = json.loads(file.read_text())
    file.write_text(json.dumps({**settings, key: int(value) if value.isdigit() else value}))
    with pytest.raises(WeightsError, match=REFUSED[change]) as caught:
        read(saved)
    assert "\n" not in str(caught.value)


def test_another_scheduler(library, saved):
    (saved / "scheduler_config.json").write_text('{"_class_name": "ScoreSdeVeScheduler", "sigma_max": 1348}')
    with pytest.raises(WeightsError, match=r"not a variance-preserving diffusion \(ScoreSdeVeScheduler\)"):
        read(saved)


# The rest needs no library: what is wrong with a folder is said before it is asked for.


def test_folders_that_are_none(saved, tmp_path):
    def refused(folder, words):
        with pytest.raises(WeightsError, match=words) as caught:
            read(folder)
        assert "\n" not in str(caught.value)

    refused(tmp_path / "nowhere", "no such folder, and no name of the hub")
    refused(saved / "config.json", "a file, and a folder is needed")
    refused("x" * 400, "File name too long")
    (saved / "scheduler_config.json").write_text("[1]")
    refused(saved, "scheduler_config.json: holds no settings by name")
    (saved / "scheduler_config.json").write_text("{")
    refused(saved, "scheduler_config.json: is not JSON")
    (saved / "scheduler_config.json").unlink()
    refused(saved, "it has no scheduler_config.json")
    (saved / "config.json").unlink()
    refused(saved, "it has no config.json")


def test_weights_that_are_not_there(saved):
    (saved / WEIGHTS).unlink()
    with pytest.raises(WeightsError, match=f"no weights .no {WEIGHTS}"):
        read(saved)
    (saved / WEIGHTS.replace("safetensors", "bin")).write_bytes(b"\x80\x02")
    with pytest.raises(WeightsError, match=r"only diffusion_pytorch_model\.bin, a pickle, which is never loaded"):
        read(saved)


def test_without_the_extra(saved, cli, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(PluginError, match=r"pip install 'invdiff\[diffusers\]'"):
        read(saved)
    (tmp_path / "theirs.yaml").write_text(RECIPE.format(source=saved))
    result = cli("run", tmp_path / "theirs.yaml", "-o", tmp_path / "out", "--quiet")
    assert (result.code, len(result.err.strip().splitlines())) == (2, 1)
    assert "prior: prior diffusers needs the library" in result.err
    assert not (tmp_path / "out").exists()


def test_a_name_of_the_hub(monkeypatch, saved):
    """Only settings and safetensors are asked for, of the revision that is named."""
    asked = {}

    def snapshot_download(name, *, revision, allow_patterns):
        asked.update(name=name, revision=revision, patterns=allow_patterns)
        raise OSError("no network")

    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    with pytest.raises(WeightsError, match=r"user/name: no such folder, nor from the hub \(no network\)"):
        read("user/name", revision="abc")
    assert (asked["name"], asked["revision"]) == ("user/name", "abc")
    assert all(pattern.endswith((".json", ".safetensors")) for pattern in asked["patterns"])
