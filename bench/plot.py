"""A plot of time against rows, as SVG, by pygal: `pip install 'chat-stats[bench]'`."""

import re
from collections.abc import Mapping
from math import ceil, floor, log10
from pathlib import Path

#: Two colours that stand out on light and dark pages; the plot has no background.
SCAN, ROLLUP = "#d9722e", "#2f8fd8"
#: Medium greys, for the same reason.
TEXT, GUIDE = "#808890", "#80889055"


def plot_times(path: Path, title: str, series: Mapping[str, list[tuple[int, float]]]) -> None:
    """Write `series` of (rows, milliseconds), both axes logarithmic.

    Names that begin with "scan" have one colour, the others another; later lines of a colour are dashed.
    """
    import pygal  # type: ignore[import-untyped]
    from pygal.style import Style  # type: ignore[import-untyped]

    style = Style(
        font_family="sans-serif",
        background="transparent",
        plot_background="transparent",
        foreground=TEXT,
        foreground_strong=TEXT,
        foreground_subtle=GUIDE,
        guide_stroke_color=GUIDE,
        major_guide_stroke_color=GUIDE,
        opacity=1,
        stroke_width="2",
        stroke_opacity=1,
        colors=tuple(SCAN if name.startswith("scan") else ROLLUP for name in series),
        title_font_size=18,
        label_font_size=13,
        major_label_font_size=13,
        legend_font_size=14,
    )
    # No script and no external fonts: hosts of READMEs block both.
    chart = pygal.XY(
        style=style,
        js=(),
        logarithmic=True,
        width=720,
        height=420,
        margin_right=50,
        title=title,
        x_title="requests in the table",
        y_title="milliseconds",
        legend_at_bottom=True,
        legend_at_bottom_columns=2,
        show_x_guides=True,
        x_value_formatter=lambda rows: f"{rows / 1e6:g} million",
        value_formatter=lambda milliseconds: f"{milliseconds:,g}",
    )
    chart.x_labels = sorted({count for points in series.values() for count, _ in points})
    chart.y_labels = [10**power for power in _powers(series)]
    lines = ((3, "solid", None), (2, "dashed", "8, 5"), (2, "dotted", "2, 4"))
    drawn: dict[str, int] = {}
    for name, points in series.items():
        kind = name.split(",", maxsplit=1)[0]
        drawn[kind] = drawn.get(kind, 0) + 1
        width, look, dashes = lines[(drawn[kind] - 1) % len(lines)]
        stroke = {"width": width} | ({"dasharray": dashes} if dashes else {})
        chart.add(f"{name} ({look})", sorted(points), dots_size=4, stroke_style=stroke)
    # pygal's identifiers are random: fixed ones change the file only with the numbers. No script is needed.
    text = re.sub(r"<script.*?</script>", "", chart.render(is_unicode=True), flags=re.DOTALL)
    for number, identifier in enumerate(dict.fromkeys(re.findall(r"chart-[0-9a-f-]{36}", text))):
        text = text.replace(identifier, f"chart-{number}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _powers(series: Mapping[str, list[tuple[int, float]]]) -> range:
    """Return the powers of ten that enclose all milliseconds."""
    values = [milliseconds for points in series.values() for _, milliseconds in points]
    return range(floor(log10(min(values))), ceil(log10(max(values))) + 1)
