"""A person at the terminal hears what is waited for, but only when it takes a while."""

import threading

import pytest

from sweeps.patience import telling


def test_what_takes_long_is_said_once_and_what_is_quick_is_not():
    said, heard = [], threading.Event()

    def say(words):
        said.append(words)
        heard.set()

    with telling("waiting for the tide", say, after=0.01):
        assert heard.wait(30)
    assert said == ["waiting for the tide"]
    with telling("never said", said.append, after=3600):
        pass
    assert said == ["waiting for the tide"]


def test_an_error_passes_and_nothing_is_said_after_it():
    said = []
    before = set(threading.enumerate())
    with pytest.raises(KeyError), telling("never said", said.append, after=3600):
        raise KeyError
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join(30)
    # Others' threads may end meanwhile.
    assert (said, set(threading.enumerate()) - before) == ([], set())
