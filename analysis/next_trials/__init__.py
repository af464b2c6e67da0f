"""What to run next: the trials of a grid that narrow a stated prediction the most for their GPU hours.

target      what is asked for, in words: "gfid at bottleneck_floats=8192"
belief      a law's parameters as the finished trials leave them: a sample, and how far measures stray from the law
knowledge   how well the target is known once some trials are done
choosing    the trials of a budget
answer      all of it on two tables, for ``tokscale next``
sampler     the same for Optuna
"""
