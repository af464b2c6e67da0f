"""One trial of a scaling study: configs, costs and records (plain), models, training and measures (torch).

Importing this package, or any of its plain modules, never imports torch: planning must feel instant.
"""

__version__ = "0.1.0"
