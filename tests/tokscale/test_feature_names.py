"""Names of feature networks: one or several, ids that stay, and which network is behind which column."""

import pytest

from tokscale.config import EvaluationConfig, GenerationConfig, TrialConfig
from tokscale.errors import ConfigError
from tokscale.feature_names import DISTANCES, behind
from tokscale.parsing import parse
from tokscale.record import COLUMNS
from tokscale.stage import identity_values


def test_one_name_is_the_config_it_was_however_it_is_written():
    assert identity_values(EvaluationConfig())["features"] == "random-conv"
    assert EvaluationConfig(features=["dinov2-b"]) == EvaluationConfig(features="dinov2-b")
    several = EvaluationConfig(features=["inception-tf2015", "dinov2-b"])
    assert several.features == ("inception-tf2015", "dinov2-b")
    assert EvaluationConfig.model_validate(several.model_dump(mode="json")) == several


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (["inception-tf2015", "inception-torchvision"], r"both measure rfid: name one"),
        (["dinov2-b", "dinov2-b"], "both measure rfdd"),
        ("random-cnn", "did you mean 'random-conv'"),
        (["random-conv", "dinov3-b"], "no such features 'dinov3-b'"),
        ([], "features are a network's name, or a list of names"),
        (7, "features are a network's name"),
        ([7], "features are a network's name"),
    ],
)
def test_what_cannot_be_is_one_message(features, words):
    with pytest.raises(ConfigError, match=words) as refusal:
        parse(TrialConfig, {"evaluation": {"features": features}})
    assert refusal.value.where == "evaluation.features"


def test_every_network_has_its_columns():
    for end in set(DISTANCES.values()):
        for column in (f"r{end}", f"g{end}", f"g{end}_inf", f"g{end}_cfg1.5"):
            assert COLUMNS[column].better == "lower"


def test_the_network_behind_a_column():
    several = "random-conv+inception-tf2015+dinov2-b"
    expected = {"rfid": "inception-tf2015", "gfid_cfg1.5": "inception-tf2015", "gis": "inception-tf2015",
                "gfid_inf": "inception-tf2015", "rfdd": "dinov2-b", "gfdd_inf": "dinov2-b", "gfd": "random-conv",
                "precision": "random-conv", "recall_cfg2": "random-conv", "psnr": several}  # fmt: skip
    for column, name in expected.items():
        assert behind(column, several) == name
        assert behind(column, "dinov2-b") == "dinov2-b"
    assert behind("rfid", "theirs+ours") == "theirs+ours"


def test_references_of_samples():
    assert GenerationConfig(reference="train:50k").reference == "train:50000"
    assert GenerationConfig(reference="train").reference == "train"
    for wrong in ("train:3", "train:many", "train:", "training", "train50k"):
        with pytest.raises(ValueError, match=r"training images needs 4|count|reference is"):
            GenerationConfig(reference=wrong)
    with pytest.raises(ValueError, match="`validation`, or the path"):
        EvaluationConfig(reference="train")  # reconstructions are measured against what went in
    with pytest.raises(ConfigError, match=r"procedural has no end of them: name a number, train:50k"):
        parse(TrialConfig, {"generation": {"reference": "train"}})
