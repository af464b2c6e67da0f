"""A cluster's profile by its name, for the command line: whatever is wrong with it is one of our messages."""

from __future__ import annotations

from slurm.profiles import LOCAL, ClusterProfile, ProfileError, load_profile, load_profiles, profile_files
from tokscale.errors import UsageError, one_of


def profile_of(name: str | None) -> ClusterProfile:
    """The profile of a cluster by name; raises ``UsageError`` when there is none, or when it is this machine."""
    try:
        if name is None or name == LOCAL.name:
            known = [one for one in load_profiles() if one != LOCAL.name]
            places = " and ".join(str(path) for path in profile_files())
            raise UsageError(
                "no cluster is named" if name is None else "this machine is no cluster: `tokscale run` works here",
                where="--cluster, or `cluster:` in the spec", given=name,
                allowed=one_of(known) if known else f"a profile in {places}",
            )  # fmt: skip
        return load_profile(name)
    except ProfileError as error:
        raise UsageError(error.what, where=error.where, given=error.given, allowed=error.allowed) from None
