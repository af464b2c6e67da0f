"""One self-contained HTML page that answers what a sweep asked.

    load       a sweep's folder: spec, results table, summary
    questions  which laws are asked of which columns, and what came of it: fits, or the reason why there is none
    answers    fits in sentences, each only where the numbers carry it
    drawing    the figures, as files and for the page
    pictures   originals, reconstructions, samples
    sections   the parts of the page, in the order in which they are read
    markup     HTML from Python calls, escaped by construction

The page is built by functions, not by a template language: it has one shape, and its parts are typed as code is.
"""

from analysis.report.page import write_report

__all__ = ["write_report"]
