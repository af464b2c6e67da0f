"""From a spec to a results table: grid, planning, store, submission, status, results."""
