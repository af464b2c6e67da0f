"""Answers as the page says them: what is resolved first, then what was asked in vain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from analysis.report.decisions import Decision, is_resolved
from analysis.report.markup import Html, tag


def by_heading(found: Sequence[Decision]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """The sentences of resolved answers, and those of the others and of questions that were refused, by heading."""
    resolved: dict[str, list[str]] = {}
    in_vain: dict[str, list[str]] = {}
    for one in found:
        for answer in one.answers:
            (resolved if is_resolved(answer) else in_vain).setdefault(one.heading, []).append(answer.sentence())
        if one.refused:
            in_vain.setdefault(one.heading, []).append(f"Not asked: {one.refused}.")
    return resolved, in_vain


def listed(said: Mapping[str, Sequence[str]]) -> Html:
    """Headings, each with its sentences."""
    items = [
        tag("li", tag("strong", heading), tag("div", [tag("p", _capital(sentence)) for sentence in sentences]))
        for heading, sentences in said.items()
    ]
    return tag("ul", items, class_="answers")


def _capital(sentence: str) -> str:
    # a measure's name keeps its small letter (rFID, gIS), and so does a setting's (losses.semantic.weight)
    named = sentence[1:2].isupper() or "." in sentence.partition(" ")[0][:-1]
    return sentence if named else sentence[:1].upper() + sentence[1:]
