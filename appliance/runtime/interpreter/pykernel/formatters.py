"""MIME types beyond IPython's own: table data, charts, JSON (contract §3.3 and §3.5).

Nothing is imported here: a formatter for a type names its module and runs only when a cell made such an object. A
formatter that fails returns None, which means "not this type"; a result is never lost over its decoration.
"""

from __future__ import annotations

import contextlib
from typing import Any

import orjson
from IPython.core.formatters import BaseFormatter
from traitlets import ObjectName, Unicode

_JSON_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


class DataFormatter(BaseFormatter):  # type: ignore[misc]
    """``e2b/data``: a table as columns."""

    format_type = Unicode("e2b/data")
    print_method = ObjectName("_repr_e2b_data_")
    _return_type = dict


class ChartFormatter(BaseFormatter):  # type: ignore[misc]
    """``e2b/chart``: a figure as data."""

    format_type = Unicode("e2b/chart")
    print_method = ObjectName("_repr_e2b_chart_")
    _return_type = dict

    def pop(self, typ: Any, default: Any = None) -> Any:
        """Keeps what it has: IPython drops figures from every formatter when it chooses the image format."""
        return default


def install(shell: Any) -> None:
    """Register the formatters with the shell's display formatter."""
    display = shell.display_formatter
    data, chart = DataFormatter(parent=display), ChartFormatter(parent=display)
    display.formatters[data.format_type] = data
    display.formatters[chart.format_type] = chart
    for module in ("pandas", "pandas.core.frame"):  # pandas 3 says the first, earlier ones the second
        data.for_type_by_name(module, "DataFrame", table)
    chart.for_type_by_name("matplotlib.figure", "Figure", figure)
    json = display.formatters["application/json"]
    json.for_type(list, plain)
    json.for_type(dict, plain)


def table(frame: Any) -> dict[str, Any] | None:
    """A DataFrame as ``{column: [values]}``, timestamps in ISO 8601, NaN as null."""
    with contextlib.suppress(Exception):
        columns = frame.to_dict("list")
        result = orjson.loads(orjson.dumps(columns, default=_value, option=_JSON_OPTIONS))
        return result if isinstance(result, dict) else None
    return None


def figure(fig: Any) -> dict[str, Any] | None:
    """A matplotlib figure as a chart; ``{}`` when the chart library fails, None when it is not installed."""
    try:
        from e2b_charts import chart_figure_to_dict
    except ImportError:
        return None
    try:
        chart = chart_figure_to_dict(fig)
        return orjson.loads(orjson.dumps(chart, default=_value, option=_JSON_OPTIONS)) if chart else {}
    except Exception:
        return {}


def plain(value: list[Any] | dict[Any, Any]) -> Any:
    """A list or dict as JSON data, or None when something in it is not JSON."""
    try:
        return orjson.loads(orjson.dumps(value, option=_JSON_OPTIONS))
    except (TypeError, ValueError, RecursionError):
        return None


def _value(value: Any) -> Any:
    """What orjson cannot: timestamps by ``isoformat``, everything else by ``str``."""
    isoformat = getattr(value, "isoformat", None)
    return isoformat() if callable(isoformat) else str(value)
