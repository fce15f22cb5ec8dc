"""The report in a browser: nothing is fetched, nothing overflows, headings sort, everybody can read it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stackfeat.output.report import drawing, page
from tests.browser.chromium import Page as Tab
from tests.projects import base_config, build_project, with_net

AXE = os.environ.get("STACKFEAT_AXE", "")
"""Path of axe.min.js, of the npm package axe-core."""
ROWS = "[...document.querySelectorAll('#leaderboard .sortable tbody tr')]"
ORDER = f"{ROWS}.map(row => row.cells[1].textContent.trim())"
SORTED = "document.querySelector('#leaderboard .sortable th:nth-child(2)').getAttribute('aria-sort')"
OPENED = "document.querySelectorAll('details').forEach(one => { one.open = true })"
BEYOND = """(() => {
    const width = document.documentElement.clientWidth;
    const may = '.scroll table, .wide img, .strip';
    const out = [...document.querySelectorAll('body *')].filter(one => !one.closest(may));
    return out.filter(one => one.getBoundingClientRect().right > width + 1).map(one => one.outerHTML.slice(0, 80));
})()"""

SCROLLING = "[...document.querySelectorAll('.wide')].filter(one => one.scrollWidth > one.clientWidth)"


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The reports of a run over classes with a net, and of one over values with many members and held-out rows."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "svg_of", drawing.svg_of)
        many = base_config("regression", "rmse")
        linear: dict[str, Any] = {"estimator": "sklearn.linear_model.Ridge"}
        many["levels"]["base"] |= {f"a_ridge_of_a_very_long_name_{i}": linear for i in range(46)}
        many |= {"interval": 0.9, "stack": {"holdout": 0.2}}
        classes = with_net(base_config())
        classes["levels"]["final"]["soft"]["calibrate"] = "auto"
        for task, config in (("multiclass", classes), ("regression", many)):
            project = build_project(tmp_path_factory.mktemp(task) / "project", task, config)
            said = project.run()
            assert said.code == 0, said.err
            found.append(project.run_folder / "report.html")
    return found


def events(tab: Tab, *methods: str) -> list[dict[str, Any]]:
    return [event for event in tab.events if event.get("method") in methods]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 768, 1280])
def test_the_page_loads_alone_and_nothing_overflows(
    tab: Tab, reports: list[Path], width: int, scheme: str
) -> None:
    for path in reports:
        tab.open(path, width, scheme=scheme)
        assert not events(tab, "Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
        urls = [event["params"]["request"]["url"] for event in events(tab, "Network.requestWillBeSent")]
        assert [url for url in urls if not url.startswith("data:")] == [path.resolve().as_uri()]
        for _ in range(2):
            assert tab.value("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
            assert tab.value(BEYOND) == []
            assert tab.value(f"{SCROLLING}.every(one => one.tabIndex === 0)"), "reached by keyboard"
            tab.value(OPENED)
        assert tab.value("[...document.images].every(one => one.complete && one.naturalWidth > 0)")
        assert tab.value("document.images.length") >= 5


def test_the_page_of_fifty_members_is_small_and_fast(tab: Tab, reports: list[Path]) -> None:
    path = reports[1]
    assert path.stat().st_size < 3 * 2**20
    tab.open(path)
    spent = tab.value("performance.getEntriesByType('navigation')[0].loadEventEnd")
    assert 0 < spent < 2000, "milliseconds"
    assert len(tab.value(ORDER)) == 51


def test_the_policy_forbids_other_scripts_and_styles(tab: Tab, reports: list[Path]) -> None:
    tab.open(reports[0])
    tab.value(
        "(() => { const one = document.createElement('script'); one.textContent = 'window.intruder = 1'; "
        "document.body.append(one); document.body.setAttribute('style', 'color: rgb(1, 2, 3)'); })()"
    )
    assert tab.value("window.intruder") is None
    assert tab.value("getComputedStyle(document.body).color") != "rgb(1, 2, 3)"


def by_mouse(tab: Tab) -> None:
    tab.click("#leaderboard .sortable th:nth-child(2) button")


def by_keyboard(tab: Tab) -> None:
    tab.value("document.querySelector('#leaderboard .sortable th:nth-child(2) button').focus()")
    tab.press("Enter")


@pytest.mark.parametrize("way", [by_mouse, by_keyboard])
def test_headings_sort(tab: Tab, reports: list[Path], way: Callable[[Tab], None]) -> None:
    tab.open(reports[0])
    tab.value(OPENED)
    before = tab.value(ORDER)
    way(tab)
    assert tab.value(SORTED) == "ascending" and tab.value(ORDER) == sorted(before) != before
    way(tab)
    assert tab.value(SORTED) == "descending" and tab.value(ORDER) == sorted(before, reverse=True)


def test_numbers_are_sorted_as_numbers_and_empty_cells_come_last(tab: Tab, reports: list[Path]) -> None:
    tab.open(reports[0])
    tab.value(OPENED)
    headings = tab.value(
        "[...document.querySelectorAll('#leaderboard .sortable th')].map(one => one.textContent)"
    )
    place = headings.index("weight")
    for sign in (1, -1):
        tab.click(f"#leaderboard .sortable th:nth-child({place + 1}) button")
        cells = tab.value(f"{ROWS}.map(row => row.cells[{place}].dataset.sort)")
        known = [float(cell) for cell in cells if cell]
        assert known == sorted(known, reverse=sign < 0) and len(known) >= 2
        assert cells[len(known) :] == [""] * (len(cells) - len(known)) and "" in cells


@pytest.mark.skipif(not AXE, reason="STACKFEAT_AXE must name axe.min.js: npm install axe-core")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(tab: Tab, reports: list[Path], scheme: str) -> None:
    for path in reports:
        for width in (390, 1280):
            tab.open(path, width, scheme=scheme)
            tab.value(OPENED)
            tab.value(f"{Path(AXE).read_text()};0")
            checks = "axe.run(document).then(found => [found.passes.length, found.violations])"
            n_passed, found = tab.value(checks)
            assert n_passed > 20
            assert [
                (one["id"], one["impact"]) for one in found if one["impact"] in ("serious", "critical")
            ] == []


def test_all_sections_are_open_on_paper(tab: Tab, reports: list[Path]) -> None:
    tab.open(reports[0])
    tab.value("window.dispatchEvent(new Event('beforeprint'))")
    assert tab.value("document.querySelectorAll('details:not([open])').length") == 0
    tab.value("window.dispatchEvent(new Event('afterprint'))")
    assert tab.value("document.querySelectorAll('details[open]').length") == 0


def test_tables_fit_on_paper(tab: Tab, reports: list[Path]) -> None:
    a4 = 794  # pixels, upright
    for path in reports:
        tab.open(path, a4)
        tab.value("window.dispatchEvent(new Event('beforeprint'))")
        tab.call("Emulation.setEmulatedMedia", media="print")
        fits = tab.value("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        tab.call("Emulation.setEmulatedMedia", media="")
        assert fits
