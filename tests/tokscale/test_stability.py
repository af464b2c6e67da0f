"""Signs of a collapse: GigaTok's own figures are recognised, a sound training and its noise are not."""

import json
import math
import random

import pytest

from tokscale.stability import LEAST_USAGE, Point, read_points, signs

CODES, LATENTS = 16384, 256 * 256  # of the paper: 256 images of 256 tokens
REACHABLE = 1 - math.exp(-LATENTS / CODES)


def curve(usage=None, perceptual=None, lines=100, noise=0.02):
    """Points whose usage and perceptual loss follow functions of the share of the budget, with noise."""
    chance = random.Random(0)

    def at(function, share):
        return None if function is None else function(share) * (1 + noise * chance.gauss(0, 1))

    shares = [(number + 1) / lines for number in range(lines)]
    return [Point(round(1000 * share), share, at(usage, share), at(perceptual, share)) for share in shares]


def found(points, codes=CODES, latents=LATENTS, warmup=0.03, **more):
    return signs(points, codes=codes, latents=latents, warmup=warmup, **more)


def test_the_paper_s_collapse_and_its_sound_twin():
    collapsed = curve(lambda share: max(0.08, 0.5 - 2 * share), lambda share: 0.55 if share < 0.3 else 0.66)
    usage, leap = found(collapsed)
    assert "the codebook collapses: a batch uses 0.08" in usage
    assert "the most was" in usage
    assert "leapt from 0.5" in leap
    sound = curve(lambda share: min(0.97, 0.2 + 3 * share), lambda share: 0.23 + 0.3 * math.exp(-5 * share))
    assert found(sound) == []


def test_an_entropy_loss_is_advised_where_there_is_one():
    collapsed = curve(lambda share: 0.05, lambda share: 0.55 if share < 0.3 else 0.66)
    assert all("entropy_weight" in words for words in found(collapsed))
    assert len(found(collapsed, entropy=False)) == 2
    assert not any("entropy_weight" in words for words in found(collapsed, entropy=False))


def test_what_stays_low_is_a_collapse_as_is_what_falls():
    assert len(found(curve(lambda share: 0.05))) == 1
    assert found(curve(lambda share: 0.05 if share < 0.5 else 0.6)) == []


def test_a_batch_of_few_latents_is_not_asked_for_more_than_it_can_reach():
    few = 1024
    reachable = 1 - math.exp(-few / CODES)  # 6 % of the codes
    assert found(curve(lambda share: 0.9 * reachable), latents=few) == []
    assert len(found(curve(lambda share: 0.9 * LEAST_USAGE * reachable), latents=few)) == 1


def test_small_codebooks_and_warm_ups_and_few_lines_say_nothing():
    low = curve(lambda share: 0.01)
    assert found(low, codes=256) == []
    assert found(low, codes=None) == []
    assert found([one for one in low if one.share < 0.2], warmup=0.25) == []
    assert found(low[:7]) == []
    assert found([]) == []


@pytest.mark.parametrize("noise", [0.02, 0.1, 0.2])
def test_noise_and_slow_descent_are_no_leap(noise):
    alarms = 0
    for lines in range(20, 200, 2):
        alarms += len(found(curve(None, lambda share: 0.5 - 0.2 * share, lines=lines, noise=noise)))
    assert alarms <= (0 if noise < 0.2 else 1)  # of 90


def test_a_leap_is_seen_through_noise():
    assert len(found(curve(None, lambda share: 0.3 if share < 0.6 else 0.5, noise=0.05))) == 1
    assert found(curve(None, lambda share: 0.6 if share < 0.4 else 0.3, noise=0.05)) == []


def test_points_of_a_file_are_those_that_led_to_its_end(tmp_path):
    path = tmp_path / "progress.jsonl"
    lines = [{"done": done, "total": 100, "perceptual": value, "codebook_usage": 0.5}
             for done, value in ((10, 1.0), (20, 2.0), (30, 3.0), (20, 2.5))]  # fmt: skip
    text = "\n".join(json.dumps(line) for line in lines)
    path.write_text(f'{text}\nnot json\n{{"done": 40}}\n{{"done": 30, "total": 100}}\n{{"torn": ')
    points = read_points(path)
    assert [(one.images, one.perceptual) for one in points] == [(10, 1.0), (20, 2.5), (30, None)]
    assert points[0].share == 0.1
    assert points[-1].usage is None
