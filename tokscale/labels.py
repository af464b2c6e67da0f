"""Names of tokenizers for people; never parsed."""

from __future__ import annotations

from tokscale.config import ConvolutionSize, TransformerSize, TrialConfig, VitTokenizer
from tokscale.formulas import bottleneck_numbers
from tokscale.presets import name_of


def encoder_name(trial: TrialConfig) -> str:
    """The encoder by its preset's name, or by its numbers."""
    return _name(trial, trial.tokenizer.encoder)


def decoder_name(trial: TrialConfig) -> str:
    """The decoder by its preset's name, or by its numbers."""
    return _name(trial, trial.tokenizer.decoder)


def label(trial: TrialConfig) -> str:
    """The tokenizer in one line for people: "S-B/16 n256 kl16", "S-B/4x16 n1024 kl16", "gigatok S-B 1d n256 vq16384x8".

    Encoder and decoder; the ViT's patch, after the tubelet's frames where it has more than one, and its positions
    unless they are rotary, "latent" where latent tokens stand beside the patches, "tail" where tails are masked; or
    GigaTok's layout, and channels and downsampling of convolutions that are not GigaTok's own ("conv16/4"); latent
    tokens; bottleneck.
    """
    tokenizer, halves = trial.tokenizer, f"{encoder_name(trial)}-{decoder_name(trial)}"
    if isinstance(tokenizer, VitTokenizer):
        times = f"{tokenizer.tubelet}x" if tokenizer.tubelet > 1 else ""
        shape = f"{halves}/{times}{tokenizer.patch}"
        shape += "" if tokenizer.positions == "rotary" else f" {tokenizer.positions}"
        shape += "" if tokenizer.latent_tokens is None else " latent"
        shape += "" if tokenizer.tail_masking is None else " tail"
    else:
        shape, size = f"gigatok {halves} {tokenizer.layout}", tokenizer.convolution
        shape += "" if size == ConvolutionSize() else f" conv{size.channels}/{size.downsampling}"
    tokens = tokenizer.tokens_of(*trial.data.extent)
    return f"{shape} n{tokens} {bottleneck_numbers(tokenizer.bottleneck).label}"


def layout(trial: TrialConfig) -> str:
    """What latent tokens stand for: "patches", of clips "tubelets of 4" frames, "latent tokens", GigaTok's "1d".

    Where tails are masked, that is said too.
    """
    tokenizer = trial.tokenizer
    if not isinstance(tokenizer, VitTokenizer):
        return tokenizer.layout
    if tokenizer.latent_tokens is not None:
        name = "latent tokens"
    else:
        name = "patches" if trial.data.extent[1] == 1 else f"tubelets of {tokenizer.tubelet}"
    return name if tokenizer.tail_masking is None else f"{name}, masked tails"


def _name(trial: TrialConfig, size: TransformerSize) -> str:
    return name_of(trial.tokenizer.kind, size.width, size.depth, size.heads)
