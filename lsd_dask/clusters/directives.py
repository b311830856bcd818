"""What jobs ask for in the batch system's own words, beside the lines that dask-jobqueue writes by itself."""

import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple


class _Line(NamedTuple):
    """A line that dask-jobqueue writes, by how it begins, and the directives that say the same."""

    begins: str
    said_by: str


#: Of memory and of time a job is asked once: some batch systems refuse a job that asks in two ways, others
#: take the one or the other.
_MEMORY = {
    "slurm": _Line("#SBATCH --mem=", r"--mem(-per-cpu|-per-gpu)?\b"),
    "lsf": _Line("#BSUB -M ", r"-M\b"),
    "pbs": _Line("#PBS -l select=", r"-l\s*(\S*[,:])?(select|nodes|p?mem|p?vmem|ncpus)="),
    "moab": _Line("#PBS -l select=", r"-l\s*(\S*[,:])?(select|nodes|p?mem|p?vmem|ncpus)="),
}
_TIME = {
    "slurm": _Line("#SBATCH -t ", r"(-t\b|--time\b)"),
    "lsf": _Line("#BSUB -W ", r"-W\b"),
    "pbs": _Line("#PBS -l walltime=", r"-l\s*(\S*,)?walltime="),
    "moab": _Line("#PBS -l walltime=", r"-l\s*(\S*,)?walltime="),
    "sge": _Line("#$ -l h_rt=", r"-l\s*(\S*,)?h_rt="),
}

_BYTES = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}

#: How a line begins, and how the files are called that output goes to; none are called on PBS and SGE.
_LOGS = {
    "slurm": ("#SBATCH", "dask-worker-%J"),
    "lsf": ("#BSUB", "dask-worker-%J"),
    "pbs": ("#PBS", ""),
    "moab": ("#PBS", ""),
    "sge": ("#$", ""),
}


def check_directives(directives: Sequence[str]) -> None:
    """Raise TypeError or ValueError unless directives are single options of a batch system."""
    if isinstance(directives, str):
        raise TypeError(f"job_extra_directives should be a list of text, not {directives!r}")
    for each in directives:
        if not is_directive(each):
            raise ValueError(
                "job_extra_directives should be single options of the batch system, such as '--gres=gpu:1', "
                f"not {each!r}"
            )


def is_directive(value: Any) -> bool:
    r"""Whether a value is a single option of a batch system: one line, which is no comment.

    Examples
    --------
    >>> is_directive("--gres=gpu:1"), is_directive("-A lab\nrm -r data"), is_directive("# -A lab")
    (True, False, False)
    """
    return isinstance(value, str) and is_one_line(value) and bool(value.strip()) and not value.startswith("#")


def is_one_line(text: str) -> bool:
    """Whether text stays within a line of a script, whatever counts as the end of one."""
    return text.replace("\t", " ").isprintable()


def skipped_lines(kind: str, directives: Iterable[str]) -> list[str]:
    """Beginnings of the lines of dask-jobqueue whose place directives take.

    Examples
    --------
    >>> skipped_lines("slurm", ["--mem-per-cpu=4G"])
    ['#SBATCH --mem=']
    """
    lines = (table[kind] for table in (_MEMORY, _TIME) if kind in table)
    return [line.begins for line in lines if _saying(line, directives)]


def memory_in(kind: str, directives: Iterable[str], cores: int) -> int | None:
    """Bytes that directives give to a job; None where they say nothing of it, or what cannot be read here.

    Raises
    ------
    ValueError
        If several directives ask Slurm for memory, or one asks for what is no amount.
    """
    if kind != "slurm":
        return None
    found = _saying(_MEMORY[kind], directives)
    if len(found) > 1:
        raise ValueError(
            f"job_extra_directives: found {' and '.join(map(repr, found))}, expected one of them"
        )
    if not found:
        return None
    asked = re.fullmatch(
        r"--mem(-per-cpu|-per-gpu)?[=\s]\s*(\d+)([KMGT]?)B?", found[0].strip(), re.IGNORECASE
    )
    if asked is None:
        raise ValueError(
            f"job_extra_directives: found {found[0]!r}, expected an amount of memory such as '--mem=16G'"
        )
    each, amount, unit = asked.groups()
    # Of 0, Slurm gives all that a node has; how many GPUs there are is not known here.
    if int(amount) == 0 or each == "-per-gpu":
        return None
    return int(amount) * _BYTES[unit.upper() or "M"] * (cores if each else 1)


def time_in(kind: str, directives: Iterable[str]) -> str | None:
    """The time limit that directives give to a job, as the batch system reads it; None for none."""
    found = _saying(_TIME[kind], directives) if kind in _TIME else []
    return re.split(r"[=\s,]", found[-1].strip().removeprefix("-l").strip())[-1] if found else None


def log_directives(kind: str, directory: str) -> tuple[list[str], list[str]]:
    """Directives for logs in a folder whose name has to be quoted, and the lines whose place they take.

    Examples
    --------
    >>> log_directives("slurm", "my logs")[0]
    ["-e 'my logs/dask-worker-%J.err'", "-o 'my logs/dask-worker-%J.out'"]
    >>> log_directives("slurm", "logs")
    ([], [])
    """
    if kind not in _LOGS or shlex.quote(directory) == directory:
        return [], []
    mark, name = _LOGS[kind]
    directives = [
        f"-{option} {shlex.quote(f'{directory}/{name}.{ending}' if name else f'{directory}/')}"
        for option, ending in (("e", "err"), ("o", "out"))
    ]
    return directives, [f"{mark} -e ", f"{mark} -o "]


def _saying(line: _Line, directives: Iterable[str]) -> list[str]:
    return [each for each in directives if re.match(line.said_by, each.strip())]
