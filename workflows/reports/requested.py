"""The option `report` of steps: a page is written when a step ends, also when it failed."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ..config.options import ReportOptions

#: Whether a step is under way that will write the report: its parts need not.
_under_way: ContextVar[bool] = ContextVar("_under_way", default=False)


@contextmanager
def reported(config: ReportOptions, container: str) -> Iterator[None]:
    """Write the report that a step is asked for once it is done; nothing where it is asked for none.

    Parameters
    ----------
    config
        Of the step.
    container
        The option that names what the step writes to.

    Raises
    ------
    ImportError, OSError
        Before the step begins, if the report could not be written.
    """
    path = config.report
    if path is None or _under_way.get():
        yield
        return
    # Late, as a configuration is read without what draws pictures and reads volumes.
    from lsd_dask.blockwise.runs import RunFailedError

    from . import report as pages

    # Of blocks, and of a training whose loss is not finite any more.
    failures = (RunFailedError, FloatingPointError)
    pages.check_report(path)
    told = {"step": config.step, **config.model_dump(mode="json")}
    token = _under_way.set(True)
    try:
        yield
    except failures as failure:
        try:
            pages.write_report(getattr(config, container), path, told)
        except (OSError, ValueError) as error:
            # What went wrong first is what the user has to know.
            failure.add_note(f"There is no report: {error}")
        raise
    finally:
        _under_way.reset(token)
    pages.write_report(getattr(config, container), path, told)
