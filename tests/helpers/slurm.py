"""A Slurm of one node for the tests: its daemons, sockets and files are its own, in a folder.

It needs Debian's packages `slurm-wlm` and `munge`, and root, who alone may start jobs. The system's own
Slurm, if there is one, is neither looked at nor touched.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

#: CPUs and memory (MB) that the node says it has, whatever the machine has: jobs of the tests mostly wait.
CPUS, MEMORY = 4, 4096

#: Jobs get their last signal two seconds after the first one, and are let go at their time limit at once.
CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=1,sched_interval=5
ReturnToService=2
KillWait=2
OverTimeLimit=0
UnkillableStepTimeout=20
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:1 State=UNKNOWN
PartitionName=short Nodes={host} Default=YES MaxTime=UNLIMITED State=UP
PartitionName=closed Nodes={host} State=DOWN
"""

COMMANDS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo")


def what_is_missing() -> str | None:
    """What this machine has not that a Slurm needs; None if all is there."""
    if os.geteuid() != 0:
        return "a Slurm of the tests' own is started by root alone"
    missing = [command for command in COMMANDS if shutil.which(command, path=_path()) is None]
    return f"no Slurm ({', '.join(missing)}): apt-get install slurm-wlm munge" if missing else None


@contextmanager
def slurm(folder: Path) -> Iterator[Mapping[str, str]]:
    """Start a Slurm, and stop it with all its jobs; the environment in which its commands find it."""
    environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": _path()}
    host = socket.gethostname().partition(".")[0]
    ports = _free_ports(2)
    for name in ("state", "spool", "munge"):
        (folder / name).mkdir(parents=True)
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o600)
    (folder / "gres.conf").write_text("AutoDetect=off\nName=gpu File=/dev/null\n")
    (folder / "slurm.conf").write_text(
        CONFIGURATION.format(
            folder=folder,
            host=host,
            cpus=CPUS,
            memory=MEMORY,
            controller_port=ports[0],
            node_port=ports[1],
        )
    )
    munge = {"key": "munge.key", "socket": "munge.socket", "pid": "munge/pid", "log": "munge/log"}
    options = [f"--{name}-file={folder / path}" for name, path in munge.items() if name != "socket"]
    options += [f"--socket={folder / munge['socket']}", f"--seed-file={folder}/munge/seed"]
    with ExitStack() as daemons:
        daemons.enter_context(_daemon(["munged", "--foreground", "--force", *options], environment))
        _wait(lambda: (folder / "munge.socket").exists(), "munged", folder)
        daemons.enter_context(_daemon(["slurmctld", "-D", "-i"], environment))
        daemons.enter_context(_daemon(["slurmd", "-D", "-N", host], environment))
        _wait(lambda: _says(["sinfo", "--noheader", "--format=%T"], environment) == {"idle"}, "slurm", folder)
        try:
            yield environment
        finally:
            subprocess.run(["scancel", "--user=root"], env=environment, check=True)
            _wait(lambda: not _says(["squeue", "--noheader"], environment), "scancel", folder)


@contextmanager
def _daemon(command: list[str], environment: Mapping[str, str]) -> Iterator[None]:
    daemon = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        daemon.terminate()
        try:
            daemon.wait(timeout=10)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


def _says(command: list[str], environment: Mapping[str, str]) -> set[str] | None:
    """The lines a command prints; None if it fails."""
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return None if ended.returncode else set(ended.stdout.split("\n")) - {""}


def _wait(is_there: Callable[[], object], what: str, folder: Path, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not is_there():
        if time.monotonic() > deadline:
            logs = "\n".join(path.read_text()[-2000:] for path in folder.rglob("*log") if path.is_file())
            raise TimeoutError(f"{what} is not ready after {seconds} s\n{logs}")
        time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        return [
            held.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(count)
        ]


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin:/sbin:/bin"
