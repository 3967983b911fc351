"""What matplotlib drew, made fit for a page: its colours become the page's, its ids its own, and it says what it is.

In: a whole SVG document whose colours are those named here. Out: one `<svg>` element. Not here: what is drawn.
"""

import hashlib
import html
import re

TEXT, GRID, PAPER = "#010203", "#010204", "#010205"
"""Stand-ins: matplotlib wants a colour, the page decides which."""
SERIES_COLOURS = tuple(f"#0102{number:02x}" for number in range(0x10, 0x18))
_SHOWN = {
    TEXT: ("text", "#3d4347", "#c9ccce"),
    GRID: ("grid", "#d5d3ce", "#3a3f43"),
    PAPER: ("paper", "#ffffff", "#17191b"),
    # Okabe and Ito's colours, which the colour-blind tell apart, darkened or lightened to a contrast of 3 on the page.
    SERIES_COLOURS[0]: ("series-1", "#0072b2", "#56b4e9"),
    SERIES_COLOURS[1]: ("series-2", "#c24e00", "#f0914a"),
    SERIES_COLOURS[2]: ("series-3", "#00805f", "#2fc79b"),
    SERIES_COLOURS[3]: ("series-4", "#a8488a", "#e39ccb"),
    SERIES_COLOURS[4]: ("series-5", "#8a6d00", "#e0c341"),
    SERIES_COLOURS[5]: ("series-6", "#5a4fcf", "#a9a2f5"),
    SERIES_COLOURS[6]: ("series-7", "#4d5358", "#a7adb2"),
    SERIES_COLOURS[7]: ("series-8", "#b3261e", "#ff8f84"),
}
"""Stand-in → its name in CSS, and its colour in light and in dark where the page sets none."""
_IDS = re.compile(r'(\bid="|="#|url\(#)')


def finished(document: str, title: str) -> str:
    """The `<svg>` element of a document, for a page; `title` is what a screen reader says."""
    element = document[document.index("<svg") :].strip()
    for stand_in, (name, light, _) in _SHOWN.items():
        element = element.replace(stand_in, f"var(--plot-{name}, {light})")
    mark = "p" + hashlib.sha256((title + element).encode()).hexdigest()[:8] + "-"
    element = _IDS.sub(lambda found: found[0] + mark, element)
    element = re.sub(r"font: [^;\"]*?(\d+(?:\.\d+)?)px [^;\"]*", r"font: \1px system-ui, sans-serif", element)
    element = re.sub(r"<metadata>.*?</metadata>\s*", "", element, flags=re.DOTALL)
    element = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', lambda found: _opening(found[1], title), element, count=1)
    return re.sub(r"\n\s*", "\n", element)


def standalone(element: str) -> str:
    """The element as a file of its own, whose colours follow the viewer's preference for light or dark."""
    light, dark = (" ".join(f"--plot-{found[0]}: {found[which]};" for found in _SHOWN.values()) for which in (1, 2))
    style = f"<style>svg {{ {light} }} @media (prefers-color-scheme: dark) {{ svg {{ {dark} }} }}</style>"
    head, bracket, rest = element.partition("</title>")
    return f"{head}{bracket}\n{style}{rest}\n"


def page_colours() -> str:
    """CSS declarations for a page that knows `light-dark()`."""
    return "\n".join(f"  --plot-{name}: light-dark({light}, {dark});" for name, light, dark in _SHOWN.values())


def _opening(view_box: str, title: str) -> str:
    said = html.escape(title)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" class="plot" '
        f'role="img" aria-label="{said}" {view_box}>\n<title>{said}</title>'
    )
