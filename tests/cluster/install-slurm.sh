#!/bin/sh
# Debian's SLURM, MUNGE and MariaDB, which the tests of tests/cluster run on ports of their own: does nothing where they
# are there, and starts none of them as a service of this machine.
set -eu
PATH="$PATH:/usr/sbin:/sbin"
missing=""
for program in slurmctld slurmd sbatch slurmdbd munged mariadbd; do
    command -v "$program" >/dev/null || missing="$missing $program"
done
[ -n "$missing" ] || exit 0

give_up() {
    echo "The tests against a real SLURM need$missing, and $1." >&2
    echo "  allowed: Debian or Ubuntu as root or with sudo; or install SLURM (with slurmdbd), MUNGE and MariaDB by hand" >&2
    exit 1
}
command -v apt-get >/dev/null || give_up "there is no apt-get here to install them"
as_root=""
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || give_up "installing them takes root, but there is no sudo"
    as_root=sudo
fi

# The packages start their services on installation; where this file says 101, dpkg is told not to.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
    trap '$as_root rm -f "$policy"' EXIT
fi
$as_root apt-get update --quiet
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes --no-install-recommends \
    slurmctld slurmd slurm-client slurmdbd munge mariadb-server
