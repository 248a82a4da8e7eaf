"""Recipes: strict YAML straight into dataclasses; an unknown or mistyped key is an error that names it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from kneerisk_engines.plain import from_plain

from kneerisk.errors import UsageError
from kneerisk.models.classifier import ClassifierConfig
from kneerisk.models.localiser import LocaliserConfig
from kneerisk.models.unet import UNetConfig
from kneerisk.models.vqvae import DecoderConfig, EncoderConfig
from kneerisk_train.data.augment import AugmentConfig
from kneerisk_train.data.labels import LabelConfig
from kneerisk_train.data.splits import SplitConfig
from kneerisk_train.films.samples import Mixture


@dataclass(frozen=True)
class OptimConfig:
    """AdamW with a linear warm-up, then a cosine to zero or a constant rate."""

    steps: int
    """0 keeps the weights that ``--init`` brings."""
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    warmup_steps: int = 100
    clip_norm: float = 1.0
    ema_decay: float = 0.998
    schedule: str = "cosine"
    """``cosine`` or ``constant``."""

    def __post_init__(self) -> None:
        if self.schedule not in ("cosine", "constant"):
            raise ValueError(f"schedule must be cosine or constant, not {self.schedule!r}")
        if self.steps < 0 or self.batch_size < 1:
            raise ValueError(
                f"steps {self.steps} must be at least 0, batch_size {self.batch_size} at least 1"
            )

    def rate(self, step: int) -> float:
        """Learning rate at a step, counted from 0."""
        import math

        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        if self.schedule == "constant":
            return self.learning_rate * warm
        progress = min(1.0, step / self.steps)
        return self.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class TeacherStage:
    """Networks of stage 1's shape but for the codes: what they read, averaged, stage 1 learns to read."""

    optim: OptimConfig
    see: tuple[str, ...] = ("latent", "features")
    """One teacher each: its classifier sees the ``latent`` before the codes, or the trunk's ``features``.
    Stage 1 starts from the first one."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    landmark_weight: float = 0.5
    landmark_share: float = 0.15
    """Share of each batch drawn from the knees with landmarks."""
    steadiness_weight: float = 0.0
    """Of reading the same grades off two exposures of a knee."""
    stillness_weight: float = 0.0
    """Of the latent's standing still between two exposures of a knee."""
    figures_every: int = 360
    """Steps between looks at val."""

    def __post_init__(self) -> None:
        if not self.see or self.see[0] != "latent" or not {*self.see} <= {"latent", "features"}:
            raise ValueError(f"see must begin with latent and hold latent and features, not {self.see}")
        if self.optim.batch_size % 2 or self.optim.batch_size < 4:
            raise ValueError("a teacher's batch_size must be even, at least 4: every knee is exposed twice")


@dataclass(frozen=True)
class VqvaeStage:
    """The VQ-VAE and, beside it, the auxiliary heads that make its latents keep what grades a knee."""

    optim: OptimConfig
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    beta: float = 0.25
    """Weight of the commitment loss."""
    grade_weight: float = 1.0
    landmark_weight: float = 0.5
    reconstruction_weight: float = 1.0
    landmark_share: float = 0.15
    """Share of each batch drawn from the knees with landmarks."""
    steadiness_weight: float = 0.0
    """Of reading the same grades off two exposures of a knee."""
    stillness_weight: float = 0.0
    """Of the latent's standing still between two exposures of a knee, before the codes."""
    taught: float = 0.0
    """Share of the grades' target that is what the teachers (without any, the stack of ``--init``) read on
    the crop as it is; the rest is the reader's grade, softened."""
    decoded: float = 0.5
    """Share of a batch's knees whose reconstruction is asked for: few teach the decoder enough."""
    freeze_norms: bool = False
    """Keep the norms' statistics and scales as they are: for going on from a trained stack (``--init``)."""
    start_share: float = 0.0
    """Share of the stack of ``--init`` in the finished weights (arXiv 2109.01903): between what it read well
    and what was learnt of other exposures there is often a network that does both."""
    figures_every: int = 360
    """Steps between looks at val."""
    imagenet: bool = True
    """Start the trunk from EfficientNet-lite0's ImageNet weights, and leave its first three blocks be."""

    def __post_init__(self) -> None:
        if self.optim.batch_size % 2 or self.optim.batch_size < 4:
            raise ValueError("vqvae's batch_size must be even, at least 4: every knee is exposed twice")
        if not 0 <= self.taught <= 1 or not 0 < self.decoded <= 1:
            raise ValueError("taught must lie in 0..1, decoded above 0 and at most 1")
        if not 0 <= self.start_share < 1:
            raise ValueError("start_share must be at least 0 and below 1: at 1 nothing would be learnt")


@dataclass(frozen=True)
class DecoderStage:
    """The decoder alone, after stage 1 and on its codes; its width is that of ``vqvae.decoder``."""

    optim: OptimConfig
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    feature_weight: float = 0.2
    """Of looking the same to the trunk as the radiograph does."""
    figures_every: int = 0
    """Steps between looks at val; 0: at the end."""


@dataclass(frozen=True)
class ClassifierStage:
    """Two classifiers, one for the grade now and one for the grade of a forecast latent."""

    optim: OptimConfig
    """Of the classifier of the grade now."""
    optim_12m: OptimConfig
    """Of the head that reads the grade's change off a forecast; it learns on what classifier_now tells grades
    by, made once, so that a step costs next to nothing."""
    forecasts: int = 2
    """Of each knee, each from a noise and in a number of steps of its own, that this head learns from."""
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    delta: float = 0.5
    """Weight of the landmark loss (the paper's delta)."""
    grade_zooms: tuple[float, ...] = (1.0,)
    """Zooms of the crop at which the published stack reads the grade now; the first is 1."""


@dataclass(frozen=True)
class DiffusionStage:
    """The forecasting U-Net."""

    optim: OptimConfig
    unet: UNetConfig = field(default_factory=UNetConfig)
    views: int = 3
    """Of each knee, whose latents are cached and drawn from: the crop as it is, and augmented ones."""
    futures: str = "auto"
    """What stands for the radiograph a year on: ``visits``, the cohort's own second visits; ``surrogate``,
    made-up ones (:mod:`kneerisk_train.stages.surrogate`); ``auto`` takes visits where there are enough."""

    anew: bool = False
    """Start from nothing even where ``--init`` brings a U-Net."""
    figures_every: int = 0
    """Steps between pictures of forecasts; 0: at the end."""

    def __post_init__(self) -> None:
        if self.futures not in ("auto", "visits", "surrogate"):
            raise ValueError(f"futures must be auto, visits or surrogate, not {self.futures!r}")
        if self.views < 1:
            raise ValueError(f"views {self.views} must be at least 1")


@dataclass(frozen=True)
class LocaliserStage:
    """The localiser, on films made of real crops and of simulated radiographs."""

    optim: OptimConfig
    localiser: LocaliserConfig = field(default_factory=LocaliserConfig)
    mixture: Mixture = field(default_factory=Mixture)
    films: int = 7000
    """Films rendered before the first step, and looked at again and again."""
    threads: int = 1


@dataclass(frozen=True)
class Recipe:
    """All that decides a stack, but the data."""

    name: str
    seed: int
    vqvae: VqvaeStage
    classifier: ClassifierStage
    diffusion: DiffusionStage
    teacher: TeacherStage | None = None
    """``None`` trains stage 1 from the readers' grades alone."""
    decoder: DecoderStage | None = None
    """``None`` publishes the decoder as stage 1 left it."""
    localiser: LocaliserStage | None = None
    """``None`` publishes the localiser of the stack that the knees were cut out with."""
    crop_size: int = 224
    """Pixels a side of the crops that the networks see, a multiple of 8; the latent is an eighth of it."""
    labels: LabelConfig = field(default_factory=LabelConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    threads: int = 2
    """Of a CPU that trains."""
    loader_threads: int = 1
    """That make batches beside the training."""

    def __post_init__(self) -> None:
        if self.crop_size % 8 or self.crop_size < 64:
            raise ValueError(f"crop_size must be a multiple of 8, at least 64, not {self.crop_size}")
        if self.classifier.classifier.crop_size != self.crop_size:
            raise ValueError(
                f"classifier.classifier.crop_size {self.classifier.classifier.crop_size} is not the recipe's "
                f"crop_size {self.crop_size}"
            )
        if self.decoder is not None and self.decoder.decoder.width != self.vqvae.decoder.width:
            raise ValueError(
                "decoder.decoder and vqvae.decoder must have one width: one starts from the other"
            )


def load_recipe(name_or_path: str) -> Recipe:
    """Read a shipped recipe by its name, or a YAML file.

    Raises:
        UsageError: where there is no such recipe, or a key is unknown, missing or of another type.
    """
    import yaml

    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"}:
        path = Path(__file__).parents[1] / "recipes" / f"{name_or_path}.yaml"
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        shipped = ", ".join(sorted(p.stem for p in (Path(__file__).parents[1] / "recipes").glob("*.yaml")))
        raise UsageError(f"no recipe {name_or_path!r}: give a YAML file or one of {shipped}") from None
    try:
        return from_plain(Recipe, document, path.name)
    except ValueError as error:
        raise UsageError(str(error)) from error
