"""volara's pipeline [1]_ on one volume, run by the interpreter that volara is installed for.

Prints a line of JSON a step: its name, and its wall and CPU seconds, those of workers included. `volara.py`
beside it runs this with ``-P``, so that ``import volara`` is the package.

References
----------
.. [1] https://github.com/e11bio/volara
"""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

DIRECT = [(-1, 0, 0), (0, -1, 0), (0, 0, -1)]


def main() -> None:
    import volara.blockwise as steps
    from funlib.geometry import Coordinate
    from volara.datasets import Affs, Labels
    from volara.dbs import SQLite
    from volara.logging import set_log_basedir
    from volara.lut import LUT

    options: dict[str, Any] = json.loads(sys.argv[1])
    out, bias = Path(options["out"]), options["bias"]
    set_log_basedir(out / "logs")
    affinities = Affs(store=Path(options["affinities"]), neighborhood=DIRECT)
    fragments, segmentation = Labels(store=out / "fragments"), Labels(store=out / "segmentation")
    graph = SQLite(path=out / "graph.sqlite", edge_attrs={"affinity": "float"})
    table = LUT(path=out / "segments.npz")
    blocks = {"block_size": Coordinate((options["block"],) * 3), "num_workers": options["workers"]}
    whole = affinities.array("r").roi
    stored = {"db": graph, "bulk_write": True, "context": Coordinate((options["context"],) * 3)}
    tasks = {
        "extract fragments": steps.ExtractFrags(
            **blocks, **stored, affs_data=affinities, frags_data=fragments, **options["extraction"]
        ),
        "agglomerate": steps.AffAgglom(
            **blocks, **stored, affs_data=affinities, frags_data=fragments, scores={"affinity": DIRECT}
        ),
        "find segments": steps.GraphMWS(
            db=graph,
            lut=table,
            weights={"affinity": (1.0, bias)},
            roi=whole,
            bounded_read=False,
        ),
        "extract segmentation": steps.Relabel(
            **blocks, frags_data=fragments, seg_data=segmentation, lut=table
        ),
    }
    for name, task in tasks.items():
        before, started = _cpu(), time.perf_counter()
        states = task.run_blockwise(multiprocessing=True)
        cost = {"step": name, "wall": time.perf_counter() - started, "cpu": _cpu() - before}
        if not states:
            raise SystemExit(f"volara's step '{name}' failed; its logs are in {out / 'logs'}")
        print(json.dumps(cost), flush=True)


def _cpu() -> float:
    """CPU seconds of this process and of those it has started and seen end."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


if __name__ == "__main__":
    main()
