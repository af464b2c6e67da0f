"""A real SLURM of four nodes on this machine, for tests: fake GPUs, accounting, preemption, and faults on demand.

``python -m tests.cluster.lab FOLDER`` starts one and prints how to use it; Ctrl-C or SIGTERM stops it. Everything lives
under one folder and on ports of its own: neither a SLURM of the system nor another lab is touched. Every daemon runs
under a keeper (keeper.py), so nothing is left when the lab stops or when the process that started it dies.

Needs root (fake GPUs are device files) and Debian's SLURM packages (``make slurm``).
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.lab_files import CLUSTER, NODES, write_files

KEEPER = Path(__file__).with_name("keeper.py")
DAEMONS = ("munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd")


_ATTEMPTS = 3
_TAKEN = "Address already in use"


class LabError(RuntimeError):
    """The lab did not do in time what it was asked to; the message ends with the daemons' last words."""


@dataclass
class Lab:
    """One SLURM: its folder, and a keeper process for every daemon that runs."""

    folder: Path
    accounting: bool = True
    keepers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @classmethod
    def start(cls, folder: Path, *, accounting: bool = True, max_array: int = 1001) -> Lab:
        """A SLURM whose four nodes are idle; ``folder`` wants a short path, because Unix sockets live there.

        A port that was free may be another's by the time that a daemon asks for it: then all begin again with others.
        """
        for attempt in range(_ATTEMPTS):
            try:
                return cls._started(folder, accounting, max_array)
            except LabError as error:
                if attempt == _ATTEMPTS - 1 or _TAKEN not in str(error):
                    raise
                shutil.rmtree(folder)
        raise AssertionError("the last attempt returns or raises")

    @classmethod
    def _started(cls, folder: Path, accounting: bool, max_array: int) -> Lab:
        missing = [daemon for daemon in DAEMONS if not shutil.which(daemon, path=search_path())]
        if missing or os.geteuid() != 0:
            raise LabError(f"a lab needs root and SLURM's packages (make slurm); missing: {', '.join(missing)}")
        lab = cls(folder.absolute(), accounting)
        try:
            write_files(lab.folder, accounting=accounting, max_array=max_array)
            lab.start_munge()
            if accounting:
                lab.start_database()
                lab.start_accounting()
            lab.start_controller()
            for node in NODES:
                lab.start_node(node)
            lab.wait_until(lambda: set(lab.node_states().values()) == {"idle"}, 30)
        except BaseException:
            lab.stop()
            raise
        return lab

    @property
    def environment(self) -> dict[str, str]:
        """For subprocesses that are to talk to this SLURM, and to no other."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
        return clean | {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": search_path()}

    def stop(self) -> None:
        """End every daemon and whatever runs below it; the folder stays."""
        for name in [*NODES, "slurmctld", "slurmdbd", "mariadbd", "munged"]:
            self.end(name, at_once=name != "mariadbd")

    # -- daemons -------------------------------------------------------------------------------------------------

    def keep(self, name: str, *command: str) -> None:
        """Run a daemon under a keeper; what it says goes to ``log/NAME.out``."""
        assert name not in self.keepers, f"{name} already runs"
        program = shutil.which(command[0], path=search_path())
        assert program is not None
        with open(self.folder / "log" / f"{name}.out", "ab") as said:
            self.keepers[name] = subprocess.Popen(
                [sys.executable, "-S", "-E", str(KEEPER), program, *command[1:]],
                stdin=subprocess.PIPE, stdout=said, stderr=said, env=self.environment, start_new_session=True,
                cwd=self.folder,
            )  # fmt: skip

    def end(self, name: str, *, at_once: bool = True) -> None:
        """End a daemon with all that it started: like a power cut, or asking it first."""
        keeper = self.keepers.pop(name, None)
        if keeper is None:
            return
        assert keeper.stdin is not None
        with contextlib.suppress(ProcessLookupError):
            keeper.send_signal(signal.SIGUSR1 if at_once else signal.SIGTERM)
        keeper.wait()
        keeper.stdin.close()

    def start_munge(self) -> None:
        """Authentication with a key of the lab's own."""
        folder = self.folder / "munge"
        files = [f"--{word}={folder}/munge.{word.split('-')[0]}" for word in ("key-file", "pid-file", "log-file")]
        self.keep("munged", "munged", "-F", f"--socket={folder}/munge.sock", f"--seed-file={folder}/seed", *files)
        self.wait_until((folder / "munge.sock").exists, 15)

    def start_database(self) -> None:
        """MariaDB for slurmdbd, on a folder of its own."""
        data, user = self.folder / "database", getpass.getuser()
        # Asynchronous requests are counted for the whole machine, and a few labs use them up.
        plain = "--innodb-use-native-aio=0"
        if not (data / "mysql").exists():
            self.ask("mysql_install_db", "--no-defaults", f"--user={user}", f"--datadir={data}", "--skip-test-db",
                     "--auth-root-authentication-method=normal", plain)  # fmt: skip
        port = dict(line.split() for line in (self.folder / "ports").read_text().splitlines())["mariadbd"]
        self.keep(
            "mariadbd", "mariadbd", "--no-defaults", f"--user={user}", f"--datadir={data}", f"--port={port}",
            "--bind-address=127.0.0.1", f"--socket={self.folder}/run/mariadb.sock", "--skip-name-resolve",
            plain, f"--pid-file={self.folder}/run/mariadb.pid", f"--init-file={self.folder}/database.sql",
            "--innodb-buffer-pool-size=64M", "--innodb-flush-log-at-trx-commit=0", "--performance-schema=OFF",
        )  # fmt: skip
        self.wait_until((self.folder / "run" / "mariadb.sock").exists, 30)

    def start_accounting(self) -> None:
        """slurmdbd; the first time, the cluster is made known to it."""
        self.keep("slurmdbd", "slurmdbd", "-D")
        self.wait_until(lambda: f"{CLUSTER}|" in self.asks("sacctmgr", "-nP", "list", "cluster", "format=cluster,rpc")
                        or self.does("sacctmgr", "-i", "add", "cluster", CLUSTER), 30)  # fmt: skip

    def stop_accounting(self) -> None:
        """slurmdbd away, as after a crash of its machine."""
        self.end("slurmdbd")

    def start_controller(self) -> None:
        """slurmctld, with the state that it last saved; it does not start without the accounting that it enforces."""
        self.keep("slurmctld", "slurmctld", "-D")
        self.wait_until(lambda: self.does("scontrol", "ping"), 30)

    def stop_controller(self) -> None:
        """slurmctld away, with its state saved."""
        self.end("slurmctld", at_once=False)

    def kill_controller(self) -> None:
        """slurmctld away, as after a power cut: what happened in the last five seconds or so is not saved.

        Started again, it does not know the jobs that were submitted then, and knows again those that were cancelled.
        """
        self.end("slurmctld")

    def limit_submissions(self, jobs: int | None) -> None:
        """How many jobs a person may have in the queue at a time; None: any number."""
        user, most = getpass.getuser(), -1 if jobs is None else jobs
        self.ask("sacctmgr", "-i", "modify", "user", user, "set", f"MaxSubmitJobs={most}")

    # -- nodes ---------------------------------------------------------------------------------------------------

    def start_node(self, node: str) -> None:
        """One slurmd."""
        self.keep(node, "slurmd", "-D", "-N", node, "-f", str(self.folder / "slurm.conf"))

    def kill_node(self, node: str) -> None:
        """A power cut of one node: its slurmd and every process of its jobs."""
        self.end(node)

    def revive_node(self, node: str) -> None:
        """Power back, and wait until SLURM uses the node again."""
        self.start_node(node)
        self.wait_until(lambda: self.node_states()[node] in {"idle", "mixed", "allocated"}, 30)

    def drain(self, node: str) -> None:
        """No new jobs for a node; those that run go on."""
        self.ask("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")

    def resume(self, node: str) -> None:
        """A drained or downed node takes jobs again."""
        self.ask("scontrol", "update", f"nodename={node}", "state=resume")

    def node_states(self) -> dict[str, str]:
        """SLURM's own word for every node (idle, mixed, allocated, down, draining, ...)."""
        lines = self.asks("sinfo", "-N", "-h", "-p", "main", "-o", "%N %T").splitlines()
        return {node: state.rstrip("*~#!%$@^-+") for node, state in (line.split() for line in lines)}

    def heal(self) -> None:
        """Undo every fault: nothing queued or running, all daemons there, four nodes idle."""
        for name, start in (("slurmdbd", self.start_accounting), ("slurmctld", self.start_controller)):
            if name not in self.keepers and (self.accounting or name != "slurmdbd"):
                start()
        self.wait_until(self.is_emptied, 30)
        try:
            self.wait_until(lambda: self.is_emptied() and not self.queue(), 6)
        except LabError:  # an end that a node could not report is reported, or asked for, only a minute later
            for node in NODES:
                self.kill_node(node)
                self.ask("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
        states = self.node_states()
        for node in NODES:
            if node not in self.keepers:
                self.start_node(node)
            if states[node] in ("drained", "draining", "down"):
                self.does("scontrol", "update", f"nodename={node}", "state=resume")  # it may be back by itself
        for partition in ("main", "high"):
            self.ask("scontrol", "update", f"partition={partition}", "state=up")
        self.wait_until(
            lambda: self.is_emptied() and not self.queue() and set(self.node_states().values()) == {"idle"}, 60
        )

    def is_emptied(self) -> bool:
        """Whether the controller has taken the order to cancel everything."""
        return self.does("scancel", "--user", getpass.getuser())

    # -- questions -----------------------------------------------------------------------------------------------

    def ask(self, *command: str) -> str:
        """The answer of one of SLURM's own tools; ``LabError`` when it fails."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise LabError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def asks(self, *command: str) -> str:
        """As ``ask``, with nothing for an answer when the tool fails."""
        try:
            return self.ask(*command)
        except (LabError, subprocess.TimeoutExpired):
            return ""

    def does(self, *command: str) -> bool:
        """Whether one of SLURM's own tools says yes."""
        try:
            self.ask(*command)
        except (LabError, subprocess.TimeoutExpired):
            return False
        return True

    def queue(self) -> dict[str, str]:
        """State of everything queued or running, by job id (``A_k`` for elements of arrays)."""
        lines = self.ask("squeue", "--noheader", "--array", "-o", "%i %T").splitlines()
        return dict(line.split() for line in lines)

    def wait_until(self, condition: Callable[[], object], seconds: float) -> None:
        """Ask again and again; ``LabError`` with the logs' last lines when it stays false, or when a daemon died."""
        deadline = time.monotonic() + seconds
        while not condition():
            dead = [name for name, keeper in self.keepers.items() if keeper.poll() is not None]
            if dead or time.monotonic() > deadline:
                what = f"{', '.join(dead)} ended" if dead else f"not within {seconds:g} s"
                raise LabError(f"{what}\n{self.last_words()}")
            time.sleep(0.1)

    def last_words(self) -> str:
        """The last lines of what every daemon said."""
        tails = [(path.stem, path.read_text(errors="replace").splitlines()[-5:])
                 for path in sorted((self.folder / "log").glob("*.out"))]  # fmt: skip
        return "\n".join(f"{name}: {line}" for name, lines in tails for line in lines)


def search_path() -> str:
    """PATH with this Python first and the daemons' folders last."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def main() -> None:
    """Keep a lab until Ctrl-C or SIGTERM."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m tests.cluster.lab FOLDER")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    lab = Lab.start(Path(sys.argv[1]))
    try:
        print(f"export SLURM_CONF={lab.folder}/slurm.conf", flush=True)
        signal.pause()
    except KeyboardInterrupt:
        print()
    finally:
        lab.stop()


if __name__ == "__main__":
    main()
