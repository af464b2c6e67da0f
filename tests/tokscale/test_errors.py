"""Errors: one message in four parts, which survives a trip between processes."""

import pickle

import pytest

from tokscale.errors import ConfigError, DataError, TokscaleError, UsageError, WorkError, one_of


def test_a_message_has_what_where_given_and_allowed():
    error = ConfigError("no such size", where="spec.yaml:3", given="SS", allowed=one_of(["S", "B"], "SS"))
    assert str(error) == (
        "no such size\n  where:   spec.yaml:3\n  given:   SS\n  allowed: did you mean 'S'? one of: S, B"
    )


def test_words_that_are_near_nothing_get_the_list_alone():
    assert one_of(["alpha", "beta"], "zzz") == "one of: alpha, beta"


@pytest.mark.parametrize(("kind", "status"), [(TokscaleError, 1), (UsageError, 2), (ConfigError, 2), (WorkError, 1)])
def test_exit_statuses(kind, status):
    assert kind("x").exit_status == status


def test_an_error_pickles_whole():
    error = DataError("no images", where="/data", given="0", allowed="1 or more")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is DataError
    assert str(copy) == str(error)
    assert copy.where == "/data"
