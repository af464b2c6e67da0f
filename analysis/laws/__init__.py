"""Laws: formulas with named parameters that tie a measure to sizes. A law is one entry of the table ``LAWS``.

A law's curve works on coordinates in which least squares behaves: a positive parameter is represented by its
logarithm, every other by itself, and sizes come as z = ln x. The array shapes: ``coordinates`` (b, p), ``z``
(k, b or 1, n) with k columns of sizes, result (b, n) with its derivatives (b, n, p) and (b, n, p, p).
"""

from analysis.laws.groups import group_law as group_law
from analysis.laws.law import Array as Array
from analysis.laws.law import Curve as Curve
from analysis.laws.law import Law as Law
from analysis.laws.law import Power as Power
from analysis.laws.law import Terms as Terms
from analysis.laws.table import LAW_NAMES as LAW_NAMES
from analysis.laws.table import LAWS as LAWS
from analysis.laws.table import law_named as law_named
