"""One self-contained page that answers what a sweep asked: HTML, Markdown or PDF.

    load       a sweep's folder: spec, results table, summary
    questions  which laws are asked of which columns, and what came of it: fits, or the reason why there is none
    decisions  the questions of the field, put to the sweep: best sizes, where parameters go, the front
    answered   answers in order: what is resolved first
    answers    fits in sentences, each only where the numbers carry it
    drawing    the figures, as files and for the page
    pictures   originals, reconstructions, samples
    sections   the parts of the page, in the order in which they are read; costs is one of them
    published  pages about published points; vitok, gigatok, studies, printed and correlation are its parts
    markup     a page as a tree, and as HTML; markdown and pdf are its other writers

The page is built by functions, not by a template language: it has one shape, and its parts are typed as code is.
"""

from analysis.report.page import FORMATS, write_report

__all__ = ["FORMATS", "write_report"]
