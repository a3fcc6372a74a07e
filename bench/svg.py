# SPDX-License-Identifier: GPL-2.0-or-later
"""Line charts as SVG: panels side by side, a legend, spread as a band. No library but Python's own.

A chart brings its own background, and follows the reader's light or dark setting.
"""
import math
from xml.sax.saxutils import escape

WIDTH, PANEL_HEIGHT = 880, 250
LEFT, RIGHT, GAP, TOP, BOTTOM = 62, 22, 70, 104, 74

STYLE = """
.page{fill:#fcfcfb;stroke:#d9d8d3}
text{font:12px system-ui,-apple-system,"Segoe UI",sans-serif;fill:#52514e}
.title{font-size:16px;font-weight:600;fill:#0b0b0b}
.panel{font-weight:600;fill:#0b0b0b}
.small{font-size:11px;fill:#74736e}
.grid{stroke:#e6e5e0}
.axis{stroke:#b5b4ae}
.line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.limit{stroke-dasharray:5 4}
.band{stroke:none;opacity:.13}
.dot{stroke:#fcfcfb;stroke-width:1.5}
.hollow{fill:#fcfcfb;stroke-width:2}
%LIGHT%
@media (prefers-color-scheme:dark){
.page{fill:#1a1a19;stroke:#3a3a38}
text{fill:#c3c2b7}
.title,.panel{fill:#ffffff}
.small{fill:#9b9a92}
.grid{stroke:#30302e}
.axis{stroke:#5a5955}
.band{opacity:.2}
.dot{stroke:#1a1a19}
.hollow{fill:#1a1a19}
%DARK%
}
"""
# By place: each is legible on its own background, and next to each other also without seeing red or green.
COLORS = [("#2a78d6", "#3987e5"), ("#eb6834", "#e0703f"), ("#1a9c6d", "#1baf7a"), ("#8a5cc7", "#a98be0"),
          ("#b98200", "#d9a21b")]
GREYS = [("#85847d", "#a3a29a"), ("#b0afa8", "#75746e")]


class Line:
    """points: (x, y, least, most, is_hollow), by x. kind: "color 0", ..., or "grey 0", ... (dashed)."""

    def __init__(self, name, kind, points):
        self.name, self.kind, self.points = name, kind, points

    @property
    def css(self):
        return self.kind.replace(" ", "")

    @property
    def is_limit(self):
        return self.kind.startswith("grey")


class Panel:
    """x_ticks: (value, text). An x axis is logarithmic always, a y axis when asked for; else it begins at 0."""

    def __init__(self, title, x_title, x_ticks, lines, is_log):
        self.title, self.x_title, self.x_ticks, self.lines, self.is_log = title, x_title, x_ticks, lines, is_log

    def values(self):
        return [y for line in self.lines for point in line.points for y in point[1:4] if y > 0 or not self.is_log]


def short(value):
    """1500000 as 1.5M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def ticks_of(least, most, is_log):
    """Round values that hold all others between the first and the last."""
    if is_log:
        steps = [factor * 10.0 ** power for power in range(-6, 13) for factor in (1, 2, 5)]
        first = max(step for step in steps if step <= least * 1.0001)
        last = min(step for step in steps if step >= most * 0.9999)
        inside = [step for step in steps if first <= step <= last]
        if len(inside) > 7:  # the ends may then be no decades, and need no line
            inside = [step for step in inside if math.log10(step) == round(math.log10(step))]
        return first, last, inside
    step = next(step for power in range(-9, 13) for step in (10.0 ** power, 2 * 10.0 ** power, 5 * 10.0 ** power)
                if most / step <= 5)
    last = math.ceil(most / step - 1e-9) * step
    return 0.0, last, [step * i for i in range(round(last / step) + 1)]


def scale(value, least, most, is_log):
    """Where a value lies between two others: 0 to 1."""
    if is_log:
        value, least, most = (math.log(max(number, 1e-12)) for number in (value, least, most))
    return (value - least) / (most - least) if most > least else 0.5


def draw_line(line, place):
    band = [place(x, most) for x, _, _, most, _ in line.points] + \
           [place(x, least) for x, _, least, _, _ in reversed(line.points)]
    path = [place(x, y) for x, y, _, _, _ in line.points]
    out = []
    if len(line.points) > 1:
        out.append(f'<polygon class="band fill-{line.css}" points="{joined(band)}"/>')
    out.append(f'<polyline class="line stroke-{line.css}{" limit" if line.is_limit else ""}" points="{joined(path)}"/>')
    for (x, y), (value, amount, _, _, is_hollow) in zip(path, line.points):
        kind = f"hollow stroke-{line.css}" if is_hollow else f"dot fill-{line.css}"
        out.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{escape(line.name)}: '
                   f'{short(amount)} at {short(value)}</title></circle>')
    return out


def joined(points):
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def draw_panel(panel, left, width, ends):
    """ends: least and most value of the y axis."""
    first, last, ticks = ticks_of(*ends, panel.is_log)
    xs = [value for value, _ in panel.x_ticks]
    bottom = TOP + PANEL_HEIGHT

    def place(x, y):
        along = scale(x, min(xs), max(xs), True)
        up = scale(min(max(y, first), last), first, last, panel.is_log)
        return left + 10 + along * (width - 20), bottom - up * PANEL_HEIGHT

    out = [f'<text class="panel" x="{left - 40}" y="{TOP - 14}">{escape(panel.title)}</text>']
    for tick in ticks:
        _, y = place(xs[0], tick)
        kind = "axis" if tick == ticks[0] and not panel.is_log else "grid"
        out.append(f'<line class="{kind}" x1="{left}" y1="{y:.1f}" x2="{left + width}" y2="{y:.1f}"/>')
        out.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{short(tick)}</text>')
    at_end, text_end = place(xs[-1], first)[0], -math.inf
    for value, text in panel.x_ticks:
        x, _ = place(value, first)
        half = 4 + 3.5 * len(text)
        out.append(f'<line class="axis" x1="{x:.1f}" y1="{bottom}" x2="{x:.1f}" y2="{bottom + 4}"/>')
        # The last one is always told; between, what would run into a neighbour is left out.
        if value == xs[-1] or (x - half > text_end and x + half < at_end - half):
            out.append(f'<text x="{x:.1f}" y="{bottom + 19}" text-anchor="middle">{escape(text)}</text>')
            text_end = x + half
    out.append(f'<line class="axis" x1="{left}" y1="{bottom}" x2="{left + width}" y2="{bottom}"/>')
    out.append(f'<text class="small" x="{left + width / 2:.1f}" y="{bottom + 37}" text-anchor="middle">'
               f'{escape(panel.x_title)}</text>')
    # Limits lie below, what is compared on top, the first of all last.
    for line in sorted(reversed(panel.lines), key=lambda line: not line.is_limit):
        out += draw_line(line, place)
    return out


def draw_legend(lines, has_hollow):
    out, x = [], 22
    entries = [(line.name, f'<line class="line stroke-{line.css}{" limit" if line.is_limit else ""}" x1="0" y1="0" '
                           f'x2="22" y2="0"/>') for line in lines]
    if has_hollow:
        entries.append(("hollow: the generator was the limit",
                        '<circle class="hollow axis" cx="11" cy="0" r="4"/>'))
    for name, mark in entries:
        out.append(f'<g transform="translate({x},62)">{mark}<text x="28" y="4">{escape(name)}</text></g>')
        x += 28 + 6.6 * len(name) + 22
    return out


def css_of(index):
    rows = [(f"color{i}", pair[index]) for i, pair in enumerate(COLORS)]
    rows += [(f"grey{i}", pair[index]) for i, pair in enumerate(GREYS)]
    return "\n".join(f".stroke-{name}{{stroke:{color}}}.fill-{name}{{fill:{color}}}" for name, color in rows)


def chart(title, subtitle, panels, note, shares_y=False):
    """The text of an SVG file.
    shares_y: all panels have the same y axis."""
    height = TOP + PANEL_HEIGHT + BOTTOM
    width = (WIDTH - LEFT - RIGHT - GAP * (len(panels) - 1)) / len(panels)
    legend = {line.name: line for panel in panels for line in panel.lines}
    has_hollow = any(point[4] for panel in panels for line in panel.lines for point in line.points)
    style = STYLE.replace("%LIGHT%", css_of(0)).replace("%DARK%", css_of(1)).strip()
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
           f'role="img">', f"<title>{escape(title)}</title>", f"<style>{style}</style>",
           f'<rect class="page" x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>',
           f'<text class="title" x="22" y="28">{escape(title)}</text>',
           f'<text class="small" x="22" y="45">{escape(subtitle)}</text>']
    out += draw_legend(legend.values(), has_hollow)
    together = [value for panel in panels for value in panel.values()]
    for number, panel in enumerate(panels):
        values = together if shares_y else panel.values()
        out += draw_panel(panel, LEFT + number * (width + GAP), width, (min(values), max(values)))
    out += [f'<text class="small" x="22" y="{height - 14}">{escape(note)}</text>', "</svg>"]
    return "\n".join(out) + "\n"
