"""An unconditional ``UNet2DModel`` with its noise schedule, as the diffusers library saves them, as a prior."""

from __future__ import annotations

from torch import Tensor

from invdiff.errors import PluginError, WeightsError, one_line
from invdiff.io.tensors import non_finite
from invdiff.prior import Output, Prediction, PriorNet, PriorSpec
from invdiff.schedule import NoiseSchedule, PredictionKind
from invdiff.settings import Settings

from .folder import Saved, read_saved

_PREDICTIONS: dict[str, PredictionKind] = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}


class DiffusersSettings(Settings):
    source: str
    """A folder that ``save_pretrained`` wrote, or ``user/name`` of the hub."""
    revision: str | None = None
    """A commit of the hub, so that the recipe means the same weights tomorrow."""


class Diffusers(PriorNet):
    """The network as it is; it looks at the noisy image alone, so that guidance brings in the measurement.

    Where its scheduler clips clean images (``clip_sample``), so does this. Raises :class:`PluginError` where the
    library is not installed, and :class:`WeightsError` for a folder that is not one of an unconditional RGB
    ``UNet2DModel`` with weights as safetensors.
    """

    Settings = DiffusersSettings

    def __init__(self, settings: DiffusersSettings) -> None:
        super().__init__()
        self.settings = settings
        saved = read_saved(settings.source, settings.revision)
        try:
            from diffusers import DDPMScheduler, UNet2DModel
        except ImportError as error:
            raise PluginError(
                f"prior diffusers needs the library: pip install 'invdiff[diffusers]' (here: {one_line(error)[:120]})"
            ) from None
        _refuse_others(saved)
        try:
            self.network = UNet2DModel.from_config(saved.network)
            scheduler = DDPMScheduler.from_config(saved.scheduler)
            schedule = NoiseSchedule(scheduler.betas)
        except Exception as error:  # the library raises many kinds for settings that are not its own
            raise WeightsError(f"{saved.place}: settings that the library refuses ({one_line(error)[:200]})") from None
        try:
            self.network.load_state_dict(saved.tensors)
        except RuntimeError as error:
            raise WeightsError(f"{saved.place}: weights do not fit config.json ({one_line(error)[:200]})") from None
        self.clip = float(scheduler.config.clip_sample_range) if scheduler.config.clip_sample else None
        self.learned_variance = scheduler.config.variance_type == "learned_range"
        channels = (int(self.network.config.in_channels), int(self.network.config.out_channels))
        wanted = (3, 6 if self.learned_variance else 3)
        if channels != wanted:
            raise WeightsError(f"{saved.place}: {channels[0]} channels in and {channels[1]} out, not {wanted}: RGB")
        self.spec = PriorSpec(
            schedule,
            prediction=_PREDICTIONS[scheduler.config.prediction_type],
            multiple=2 ** (len(self.network.config.block_out_channels) - 1),
        )

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor) -> Output:
        raw = self.network(x_t, t).sample
        if not self.learned_variance:
            return Output(raw)
        raw, place = raw.chunk(2, dim=1)
        return Output(raw, variance_fraction=(place + 1) / 2)

    def predict(self, x_t: Tensor, t: Tensor, condition: Tensor, parameters: Tensor | None = None) -> Prediction:
        found = super().predict(x_t, t, condition, parameters)
        if self.clip is not None:
            found.x0 = found.x0.clamp(-self.clip, self.clip)
            found.eps = self.spec.schedule.to_eps(found.x0, x_t, t)
        return found


def _refuse_others(saved: Saved) -> None:
    """Raise :class:`WeightsError` for a kind of network or noise that would be half understood."""

    def refuse(what: str) -> None:
        raise WeightsError(f"{saved.place}: {what}")

    kind = saved.network.get("_class_name", "nothing")
    if kind != "UNet2DModel":
        refuse(f"config.json is of {kind}, and only an unconditional UNet2DModel is read")
    if saved.network.get("num_class_embeds") or saved.network.get("class_embed_type"):
        refuse("a class-conditional network, and a photo has no class")
    if saved.network.get("time_embedding_type", "positional") != "positional" or not (
        {"beta_schedule", "trained_betas"} & set(saved.scheduler)
    ):
        refuse(f"not a variance-preserving diffusion ({saved.scheduler.get('_class_name', 'unnamed scheduler')})")
    if saved.scheduler.get("rescale_betas_zero_snr"):
        refuse(
            "rescale_betas_zero_snr: its noisiest image holds nothing of the clean one, which the loop cannot divide by"
        )
    prediction = saved.scheduler.get("prediction_type", "epsilon")
    if prediction not in _PREDICTIONS:
        refuse(f"prediction_type {prediction!r} is not one of {', '.join(_PREDICTIONS)}")
    if (name := non_finite(saved.tensors)) is not None:
        refuse(f"'{name}' holds numbers that are not finite")
