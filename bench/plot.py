"""A plot of time against rows, as SVG, by pygal: `pip install 'chat-stats[bench]'`."""

from collections.abc import Mapping
from pathlib import Path


def plot_times(path: Path, title: str, series: Mapping[str, list[tuple[int, float]]]) -> None:
    """Write `series` of (rows, milliseconds), both axes logarithmic."""
    import pygal  # type: ignore[import-untyped]
    from pygal.style import CleanStyle  # type: ignore[import-untyped]

    # No script and no fonts from elsewhere: hosts of READMEs show neither.
    chart = pygal.XY(
        style=CleanStyle(font_family="sans-serif", background="white"),
        js=(),
        logarithmic=True,
        width=900,
        height=480,
        title=title,
        x_title="requests in the table",
        y_title="milliseconds",
        legend_at_bottom=True,
        legend_at_bottom_columns=2,
        show_x_guides=True,
        x_value_formatter=lambda rows: f"{rows:,.0f}",
        value_formatter=lambda milliseconds: f"{milliseconds:,g}",
    )
    rows = sorted({count for points in series.values() for count, _ in points})
    chart.x_labels = rows
    for name, points in series.items():
        chart.add(name, sorted(points), dots_size=4)
    chart.render_to_file(str(path))
