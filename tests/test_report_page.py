"""The report's page in a real headless Chromium: on a desk and on a phone, by day and by night.

Screenshots go to the folder that NANOCHAT_SCREENSHOTS names, if it does.
"""

from pathlib import Path
from typing import Any

from test_page import axe, browser, pytestmark, shoot
from test_report import Home, home, registry
from test_sweep_report import many, sweep

from nanochat.sweeping.sweep import Sweep

__all__ = ["axe", "browser", "home", "many", "pytestmark", "registry", "sweep"]


def pages(home: Home, sweep: Sweep, many: Sweep) -> dict[str, Path]:
    """A sweep's page, one's of many variants, a whole run's, and a failed one's."""
    failed = home.run("stages.base.steps=9", until="tok")
    errors = [{"code": "E403", "message": "out of memory " * 30, "help": "a smaller batch"}]
    failed.event("stage_failed", stage="base", key=failed.stages[1].folder.key, seconds=3.0, errors=errors)
    whole = home.run()
    for name in ("batches", "many", failed.path.name, whole.path.name):
        result = home.report(name)
        assert result.exit_code == 0, result.output
    swept = {"sweep": sweep.path / "report.html", "many": many.path / "report.html"}
    return {**swept, "failed": failed.page, "run": whole.page}


def test_every_page_fits_its_screen_has_no_fault_that_axe_finds_and_changes_its_colours(
    home: Home, sweep: Sweep, many: Sweep, browser: Any, axe: str
) -> None:
    found = pages(home, sweep, many)
    colours, asked = dict[tuple[str, str], str](), list[str]()
    for scheme, width in (("light", 1280), ("dark", 390)):
        context = browser.new_context(bypass_csp=True, color_scheme=scheme, viewport={"width": width, "height": 844})
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        for name, path in found.items():
            page.goto(path.as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name
            page.evaluate(axe)
            faults = page.evaluate("axe.run()")["violations"]
            assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in faults] == [], name
            line = page.locator("svg.plot path[style*='series-1']").first
            if line.count():
                colours[name, scheme] = str(line.evaluate("path => getComputedStyle(path).stroke"))
            shoot(page, f"report-{name}-{width}-{scheme}")
        context.close()
    assert all(url.startswith("file://") and url.endswith("report.html") for url in asked)
    assert colours["run", "light"] == "rgb(0, 114, 178)" and colours["run", "dark"] == "rgb(86, 180, 233)"


def test_no_script_of_a_sample_runs_even_where_markup_were_let_in(home: Home, browser: Any) -> None:
    run = home.run()
    home.report()
    page = browser.new_page()
    text = run.page.read_text(encoding="utf-8").replace("<main>", "<main><script>document.title = 'taken'</script>")
    run.page.write_text(text, encoding="utf-8")
    page.goto(run.page.as_uri())
    assert page.title() == "quickstart · run report"
