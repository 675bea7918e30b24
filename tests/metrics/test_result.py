"""Which metrics a result gets: the operator's space is asked, never the shape of its parameters."""

from __future__ import annotations

import torch

from invdiff import BoxSpace, Degradation
from invdiff.metrics.catalogue import FID, METRICS, captions, conventions
from invdiff.metrics.result import parameter_metrics, picture_metrics
from invdiff.testing.subjects import ToyBlur, picture


class ColourMatrix(Degradation):
    """An unknown 3x3 mixture of colours: a square of numbers, and no kernel."""

    def __init__(self):
        super().__init__()
        self.parameters = BoxSpace(("m",) * 9, (0.0,) * 9, (1.0,) * 9)

    def sample_parameters(self, batch, generator):
        return torch.rand(batch, 3, 3, generator=generator)

    def apply(self, x, theta):
        return torch.einsum("bij,bjhw->bihw", theta, x)

    def lift(self, y):
        return y


def test_a_square_that_is_no_kernel():
    operator, x = ColourMatrix(), picture(1, (16, 16), torch.float32)[0]
    one, other = operator.sample_parameters(2, torch.Generator().manual_seed(0))
    assert set(parameter_metrics(one, other, x, operator)) == {"lr_psnr"}


def test_a_kernel():
    operator, x = ToyBlur(), picture(1, (16, 16), torch.float32)[0]
    one, other = operator.sample_parameters(2, torch.Generator().manual_seed(0))
    found = parameter_metrics(one, other, x, operator)
    assert set(found) == {"kernel_l1", "kernel_l1_shifted", "kernel_psnr_shifted", "kernel_mnc", "lr_psnr"}


def test_every_metric_is_in_the_catalogue(cli, recipe, request, tmp_path, report):
    """What run writes and what eval writes have the same names, all of which the catalogue explains."""
    import csv

    assert cli("run", recipe(), "-o", tmp_path / "run").code == 0
    folder = request.getfixturevalue("picture")("a.png", 64, 64).parent
    assert cli("eval", recipe(), folder, "-o", tmp_path / "eval", "--quiet").code == 0
    (entry,) = report(tmp_path / "run").values()
    in_report = {name.removesuffix("_baseline") for name in entry["metrics"]}
    assert in_report <= set(METRICS)
    assert report(tmp_path / "run", whole=True)["conventions"].keys() - {"residual"} == in_report
    with (tmp_path / "eval" / "results.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert list(row)[5:] == ["luma_border", *METRICS]
    measured = {name for name in METRICS if row[name]}
    assert in_report <= measured
    text = (tmp_path / "eval" / "summary.md").read_text() + (tmp_path / "eval" / "report.html").read_text()
    for name in measured:
        assert METRICS[name].title in text
        assert conventions([name], 4)[name].partition(";")[0] in text


def test_captions_join_what_follows_one_convention():
    lines = captions(["lpips_vgg", "lpips_alex", "psnr_y"], 4, fid=True)
    assert lines[0].startswith("LPIPS-VGG, LPIPS-Alex: ")
    assert "4 pixels of border" in lines[1]
    assert lines[2].startswith(f"{FID.title}: ")


def test_names_of_picture_metrics():
    x = picture(1, (16, 16), torch.float32)[0]
    assert set(picture_metrics(x, x, ToyBlur())) == {"psnr_y", "psnr_rgb", "ssim_y"}
