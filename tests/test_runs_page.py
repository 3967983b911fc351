"""The page of runs at the server: its endpoints, and what a person sees of it in a real Chromium."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from starlette.testclient import TestClient
from test_page import CHROMIUM, axe, browser, page, shoot  # noqa: F401 (fixtures)
from test_serving import running
from test_watch import House, at_work, house  # noqa: F401 (a fixture)

from nanochat.running.live import LiveRuns
from nanochat.serving.app import create_server
from nanochat.serving.keys import Keys
from nanochat.serving.models import Models

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = playwright.expect
in_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")

EVIL = '<img src=x onerror="document.title=1">'


def app(runs: Any, **options: Any) -> Any:
    models = Models()
    models.ready = True
    return create_server(models, start=lambda: None, runs=runs, **options)


class Told:
    """Runs that are told."""

    def __init__(self, *runs: Mapping[str, Any]) -> None:
        self.runs = {run["id"]: run for run in runs}

    def list(self) -> Sequence[Mapping[str, Any]]:
        return [{**run, "figures": {EVIL: 0.5}} for run in self.runs.values()]

    def run(self, name: str) -> Mapping[str, Any] | None:
        return self.runs.get(name)


def stage(name: str = "base", **changes: Any) -> dict[str, Any]:
    loss = [[step, 2 + 6 / step] for step in range(1, 60)]
    return {
        "stage": name,
        "use": "pretrain",
        "state": "running, 60 of 400 steps",
        "at_work": True,
        "progress": {"done": 60, "total": 400, "unit": "steps"},
        "seconds": None,
        "tokens_per_second": 51_234.5,
        "seconds_left": 754.0,
        "figures": {"mfu": 0.412, "data_wait": 0.001, "tokens": 2_457_600.0, "peak_memory_bytes": 1.1e9},
        "rates": {"embeddings": 0.3, "matrices": 0.02},
        "data": {"web.shard": 3.0, "web.epoch": 0.0},
        "evaluation": {"step": 50, "time": 1.0, "val.bpb": 1.31},
        "memory": {"0": 1_060_000_000, "1": 1_050_000_000},
        "results": {},
        "curves": {"loss": loss, "val.bpb": [[step, 1 + 1 / step] for step in (10, 20, 30, 40, 50)]},
        **changes,
    }


def told(name: str, *stages: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    words = {"recipe": "tale", "state": "running", "started": "2026-01-01", "done": 1, "planned": 3, "seconds": 75.0}
    return {"id": name, **words, "stages": list(stages), "error": None, **changes}


# The endpoints


def test_runs_are_listed_and_one_is_told_with_its_curves(house: House) -> None:  # noqa: F811
    house.train(range(1, 101))
    house.report(100)
    with at_work(house), TestClient(app(LiveRuns())) as client:
        (run,) = client.get("/v1/runs").json()["data"]
        found = client.get(f"/v1/runs/{run['id']}").json()
        assert client.get("/runs").headers["content-security-policy"].startswith("default-src 'self'")
    assert (run["id"], run["state"], run["done"], run["planned"]) == ("tale-0a1b2c3d", "running", 1, 3)
    assert run["figures"] == {"bytes_per_token": 3.25}
    assert str(house.home) not in json.dumps(run)
    base = found["stages"][1]
    assert base["progress"]["done"] == 100 and len(base["curves"]["loss"]) == 100


@pytest.mark.parametrize("name", ["tale", "nothing", "..", "%2e%2e%2fruns", "/etc", "tale-0a1b2c3d/x", "%00"])
def test_only_a_runs_very_name_is_answered(house: House, name: str) -> None:  # noqa: F811
    with TestClient(app(LiveRuns())) as client:
        assert (
            client.get(f"/v1/runs/{name}").status_code in (404, 200)
            and "stages" not in client.get(f"/v1/runs/{name}").text
        )


def test_a_run_that_is_removed_meanwhile_is_a_404(house: House, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    runs = LiveRuns()
    with TestClient(app(runs)) as client:
        assert client.get("/v1/runs/tale-0a1b2c3d").status_code == 200
        known = [house.run]
        monkeypatch.setattr("nanochat.running.live.list_runs", lambda: known)
        (house.run.path / "plan.json").unlink()
        response = client.get("/v1/runs/tale-0a1b2c3d")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "run_not_found")


def test_where_keys_are_asked_for_runs_are_not_told_without_one() -> None:
    with TestClient(app(Told(told("one", stage())), keys=Keys(["secret"]))) as client:
        for path in ("/v1/runs", "/v1/runs/one"):
            assert client.get(path).status_code == 401
            assert client.get(path, headers={"Authorization": "Bearer secret"}).status_code == 200
        assert client.get("/runs").status_code == 200  # the page itself tells nothing


def test_a_server_that_was_told_of_no_runs_lists_none() -> None:
    with TestClient(app(None)) as client:
        assert client.get("/v1/runs").json() == {"object": "list", "data": []}
        assert client.get("/v1/runs/one").status_code == 404


# The page


@in_chromium
def test_the_page_shows_the_runs_and_the_newest_ones_curves_and_follows_them(page: Any) -> None:  # noqa: F811
    runs = Told(told("new-1", stage()), told("old-2", stage("sft", at_work=False, progress=None)))
    with running(app(runs)) as url:
        page.goto(f"{url}/runs")
        expect(page.locator("#name")).to_have_text("new-1")
        expect(page.locator(".stage h3")).to_have_text("base running, 60 of 400 steps")
        text = page.locator(".stage").inner_text()
        for part in ("60 of 400 steps · 12 min 34 s left", "51,235 tokens/s", "MFU 41.2%", "embeddings 0.3"):
            assert part in text
        assert "rank 1 1.05 GB" in text and "web.shard 3" in text and "step 50 · val.bpb 1.31" in text
        assert page.locator("polyline").count() == 2
        points = page.locator("polyline").first.get_attribute("points").split()
        assert len(points) == 59
        heights = [float(point.split(",")[1]) for point in points]
        assert heights == sorted(heights)  # a loss that falls goes down
        runs.runs["new-1"]["stages"] = [stage(state="finished", progress=None, seconds=80.0)]
        expect(page.locator(".stage h3")).to_have_text("base finished, 1 min 20 s", timeout=60_000)  # by itself
        page.get_by_role("link", name="old-2").click()
        expect(page.locator("#name")).to_have_text("old-2")
        expect(page.locator("[aria-current]")).to_contain_text("old-2")


@in_chromium
def test_no_name_and_no_error_becomes_html(page: Any) -> None:  # noqa: F811
    error = {"stage": EVIL, "code": "E403", "message": EVIL, "help": EVIL, "log": EVIL}
    bad = stage(EVIL, state=EVIL, rates={EVIL: 1.0}, data={EVIL: 2}, results={EVIL: 3.5})
    bad["curves"] = {EVIL: [[1, 2.0], [2, 1.0]]}
    with running(app(Told(told(EVIL, bad, state="failed", error=error)))) as url:
        page.goto(f"{url}/runs")
        expect(page.locator("#name")).to_have_text(EVIL)
        expect(page.locator("#error")).to_contain_text("error[E403]")
        assert page.locator("img").count() == 0
        assert page.title() == "Runs · nanochat"
        assert page.locator("figcaption").inner_text().startswith("<img")


@in_chromium
def test_what_goes_wrong_is_said_in_words(page: Any) -> None:  # noqa: F811
    with running(app(Told(told("one", stage())), keys=Keys(["secret"]))) as url:
        page.goto(f"{url}/runs")
        expect(page.get_by_role("status")).to_contain_text("asks for an API key")
        page.evaluate("localStorage.setItem('nanochat.settings', JSON.stringify({key: 'secret'}))")
        page.reload()
        expect(page.locator("#name")).to_have_text("one")
        page.goto(f"{url}/runs#gone")
        expect(page.get_by_role("status")).to_have_text("there is no run `gone`.")
    expect(page.get_by_role("status")).to_contain_text("does not answer", timeout=60_000)
    with running(app(Told())) as url:
        page.goto(f"{url}/runs")
        expect(page.get_by_role("status")).to_have_text("No runs yet.")


@in_chromium
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")])
def test_axe_finds_no_violation_and_nothing_is_wider_than_the_screen(
    browser: Any,  # noqa: F811
    axe: str,  # noqa: F811
    width: int,
    scheme: str,
) -> None:
    error = {"stage": "sft", "code": "E501", "message": "the loss is not finite", "help": "lower it", "log": "/x/y.log"}
    failed = told("tale-with-a-very-long-name-" + "x" * 60, stage(), stage("sft", at_work=False), error=error)
    context = browser.new_context(bypass_csp=True, color_scheme=scheme, viewport={"width": width, "height": 844})
    made = context.new_page()
    with running(app(Told(failed, told("other-12345678", state="finished")))) as url:
        made.goto(f"{url}/runs")
        expect(made.locator("polyline")).to_have_count(4)
        made.evaluate(axe)
        found = made.evaluate("axe.run()")["violations"]
        assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found] == []
        assert made.evaluate("document.documentElement.scrollWidth") <= width
        shoot(made, f"runs-{width}-{scheme}")
    context.close()
