"""The config tree: strict, resolved to numbers, and every refusal is one message with its path."""

import pytest

from tokscale import presets
from tokscale.config import TrialConfig, parse_count
from tokscale.errors import ConfigError
from tokscale.parsing import parse


@pytest.mark.parametrize(
    ("written", "meant"),
    [("102.4M", 102_400_000), ("4k", 4000), ("1G", 10**9), ("1e6", 10**6), ("1_000", 1000), (5.0, 5), (7, 7)],
)
def test_counts_carry_suffixes(written, meant):
    assert parse_count(written) == meant


@pytest.mark.parametrize("written", ["ten", "1.5", "3x", "-4", "1.0001k", 2.5, ""])
def test_what_is_no_count_is_refused(written):
    with pytest.raises(ValueError, match="whole number"):
        parse_count(written)


def test_sizes_are_stored_as_numbers_whether_named_or_written():
    named = parse(TrialConfig, {"tokenizer": {"encoder": "S"}})
    written = parse(TrialConfig, {"tokenizer": {"encoder": {"width": 768, "depth": 6, "heads": 12}}})
    assert named == written
    assert named.model_dump()["tokenizer"]["encoder"] == {"width": 768, "depth": 6, "heads": 12}


@pytest.mark.parametrize("family", presets.FAMILIES)
def test_every_preset_is_a_valid_size_and_is_found_by_its_numbers(family):
    probes = {"gpt": "autoregressive", "dit": "diffusion"}
    section, key = ("probe", "size") if family in probes else ("tokenizer", "encoder")
    kind = {"kind": probes.get(family, family)}
    for name, size in presets.FAMILIES[family].items():
        trial = parse(TrialConfig, {section: {key: name, **kind}, "data": {"resolution": 256}})
        stored = getattr(getattr(trial, section), key)
        assert (stored.width, stored.depth, stored.heads) == size[:3]
        assert presets.name_of(family, *size[:3]) == name


def test_a_config_survives_a_round_trip():
    trial = parse(TrialConfig, {"tokenizer": {"bottleneck": {"kind": "fsq", "levels": [8, 5]}}, "seed": 3})
    assert parse(TrialConfig, trial.model_dump(mode="json")) == trial


REFUSED = {
    "unknown section": ({"tokenizr": {}}, "trial.tokenizr", "did you mean 'tokenizer'"),
    "unknown key": ({"tokenizer": {"bottleneck": {"chanels": 3}}}, "trial.tokenizer.bottleneck.chanels", "'channels'"),
    "unknown key of an optional section": ({"probe": {"sise": "B"}}, "trial.probe.sise", "did you mean 'size'"),
    "unknown kind": ({"tokenizer": {"bottleneck": {"kind": "klx"}}}, "trial.tokenizer.bottleneck.kind", "'kl'"),
    "unknown preset": ({"tokenizer": {"encoder": "XS"}}, "trial.tokenizer.encoder", "one of: pico"),
    "missing key": ({"data": {"kind": "image_folder"}}, "trial.data.root", "needed"),
    "wrong type": ({"training": {"lr": "fast"}}, "trial.training.lr", "number"),
    "not positive": ({"training": {"lr": 0}}, "trial.training.lr", "greater than 0"),
    "no count": ({"training": {"images": "lots"}}, "trial.training.images", "k, M or G"),
    "no word of the list": ({"training": {"precision": "fp8"}}, "trial.training.precision", "'bf16'"),
    "heads": ({"tokenizer": {"encoder": {"width": 100, "depth": 2, "heads": 3}}}, "trial.tokenizer.encoder",
              "3 heads do not divide a width of 100"),
    "rotary positions": ({"probe": {"size": {"width": 60, "depth": 2, "heads": 10}}}, "trial.probe.size",
                         "multiple of 4"),
    "codes under diffusion": ({"probe": {"kind": "diffusion"}, "tokenizer": {"patch": 4, "bottleneck": {"kind": "vq"}}},
                              "trial", "diffusion models continuous latents, and tokenizer.bottleneck vq has codes"),
    "a temperature of diffusion": ({"probe": {"kind": "diffusion"}, "generation": {"temperature": 0.9}}, "trial",
                                   "generation.temperature 0.9 is for autoregressive probes"),
    "guidance of first tokens": ({"probe": {"kind": "diffusion"}, "generation": {"cfg_start": 0.2}}, "trial",
                                 "generation.cfg_start 0.2 is for autoregressive probes"),
    "levels of ddpm": ({"probe": {"kind": "diffusion", "objective": "ddpm"}, "generation": {"sampler_steps": 1001}},
                       "trial", "sampler_steps 1001 are more than the 1000 levels"),
    "heun of ddpm": ({"probe": {"kind": "diffusion", "objective": "ddpm"}, "generation": {"solver": "heun"}}, "trial",
                     "generation.solver heun is for probe.objective flow"),
    "times of ddpm": ({"probe": {"kind": "diffusion", "objective": "ddpm", "times": "logit-normal"}}, "trial.probe",
                      "times logit-normal is for objective flow"),
    "mixtures of diffusion": ({"probe": {"kind": "diffusion", "mixtures": 4}}, "trial.probe.mixtures", "unknown key"),
    "a scale twice": ({"generation": {"cfg_scales": [1.5, 3, 1.5]}}, "trial.generation", "names a scale twice"),
    "scales beside a scale": ({"generation": {"cfg_scale": 2, "cfg_scales": [1, 2]}}, "trial.generation",
                              "cfg_scale 2 cannot stand beside it"),
    "scales beside a search": ({"generation": {"cfg_search": {}, "cfg_scales": [1, 2]}}, "trial.generation",
                               "cfg_search cannot stand beside it"),
    "no scales": ({"generation": {"cfg_scales": []}}, "trial.generation.cfg_scales", "at least 1"),
    "patch": ({"tokenizer": {"patch": 12}}, "trial", "patch 12 does not divide data.resolution 32"),
    "levels": ({"tokenizer": {"bottleneck": {"kind": "fsq", "levels": []}}}, "trial.tokenizer.bottleneck.levels",
               "at least 1"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_names_path_and_remedy(case):
    values, path, words = REFUSED[case]
    with pytest.raises(ConfigError) as refusal:
        parse(TrialConfig, values, where="trial")
    assert refusal.value.where == path
    assert words in str(refusal.value)
    assert refusal.value.exit_status == 2
