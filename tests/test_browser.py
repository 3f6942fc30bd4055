"""Pages in a browser: they load without an error, clips play, keys do what the mouse does.

Needs Playwright's Python package (the extra `browser`) and a Chromium.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_playing import ACTIONS, made

from experiment.reports import pages

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
if not CHROMIUM:
    pytest.skip("no Chromium", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api", reason="pip install '.[browser]'")
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pages of a dataset and of runs: two of one protocol, and one of another."""
    folder = tmp_path_factory.mktemp("pages")
    described: dict[str, Any] = {"dataset": "mine", "synthetic": False}
    described["accuracies"] = ["Linear: 2 %.", "Retrieval: 1 %."]
    described["actions"] = pages.actions(ACTIONS, ["wave", "sit down", "stand up", "fall <over>"])
    for run, protocol, seed in (("one", "xsub", 0), ("two", "xsub", 1), ("far", "xview", 2)):
        named = described | {"run": run, "protocol": protocol, "stream": "joint"}
        page = pages.fill("run.html", named | made(seed=seed).page())
        (folder / f"{run}.html").write_text(page)
    page = pages.fill("dataset.html", described | pages.dataset(made().clips))
    (folder / "mine-clips.html").write_text(page)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(folder: Path, browser: Any) -> Iterator[Open]:
    """A function that opens a page 1280 pixels wide; no error and no request may come of it."""
    faults: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 800}, offline=True)

    def opened(name: str, **media: str) -> Any:
        page = context.new_page()
        page.emulate_media(**media)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: said.type == "error" and faults.append(said.text))
        page.on("request", lambda asked: asked.url.startswith("file:") or faults.append(asked.url))
        page.goto((folder / name).as_uri())
        return page

    yield opened
    context.close()
    assert not faults


def picture(page: Any, canvas: str) -> str:
    return page.eval_on_selector(canvas, "canvas => canvas.toDataURL()")


def moves(page: Any, canvas: str) -> bool:
    """True if the picture on a canvas changes within a second."""
    before = picture(page, canvas)
    for _ in range(20):
        page.wait_for_timeout(50)
        if picture(page, canvas) != before:
            return True
    return False


def playing(page: Any) -> str:
    """The test clip that the player shows."""
    return page.inner_text("#query strong")


def listed(page: Any) -> list[str]:
    return page.locator("#list button span:first-child").all_inner_texts()


# ---- A run ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["one.html", "mine-clips.html"])
def test_a_page_fits_its_width_in_light_and_dark(opened: Open, name: str, scheme: str) -> None:
    page = opened(name, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(map(int, ground.removeprefix("rgb(").removesuffix(")").split(","))) / 3
    assert (brightness > 128) == (scheme == "light")
    assert moves(page, "figure canvas")


def test_a_click_on_the_map_plays_that_clip_beside_its_neighbours(opened: Open) -> None:
    page = opened("one.html")
    data = page.evaluate("page.test")
    for which in (0, 1):
        for index in (3, 11):
            x, y = page.evaluate(f"maps[{which}].at[{index}]")
            page.locator("#maps canvas").nth(which).click(position={"x": x, "y": y})
            assert playing(page) == data[index]["name"]
    clip = data[11]
    actions = page.evaluate("page.actions")
    assert actions[clip["label"]] in page.inner_text("#query")
    guess = page.inner_text(".guess >> nth=0").split("\n")
    assert guess[0] == actions[clip["guesses"][0][0]]
    near = page.locator(".near figcaption").all_inner_texts()
    for said, (place, distance) in zip(near, clip["near"], strict=True):
        found = page.evaluate(f"page.train[{place}]")
        assert f"{actions[found['label']]}\ndistance {distance:.3f}\n{found['name']}" in said
    assert all(moves(page, f".near figure:nth-child({n}) canvas") for n in (1, 2, 3))


def test_arrow_keys_walk_over_the_map(opened: Open) -> None:
    page = opened("one.html")
    canvas = page.locator("#maps canvas").first
    canvas.focus()
    for key, axis, sign in (("ArrowRight", 0, 1), ("ArrowUp", 1, -1)):
        middle = page.evaluate(
            "show(maps[0].at.map((at, i) => [Math.hypot(at[0] - 170, at[1] - 170), i])"
            ".sort((a, b) => a[0] - b[0])[0][1]), maps[0].at[chosen.clip]"
        )
        page.keyboard.press(key)
        after = page.evaluate("maps[0].at[chosen.clip]")
        assert sign * (after[axis] - middle[axis]) > 0


def test_a_click_on_a_cell_lists_its_clips_and_so_do_keys(opened: Open) -> None:
    page = opened("one.html")
    cells = [cell for cell in page.evaluate("page.confusion") if cell[0] != cell[1]]
    actual, taken, count = max(cells, key=lambda cell: cell[2])
    expected = [
        clip["name"]
        for clip in page.evaluate("page.test")
        if (clip["label"], clip["guesses"][0][0]) == (actual, taken)
    ]
    page.click(f'#matrix [data-cell="{actual} {taken}"]')
    assert listed(page) == expected
    assert len(expected) == count
    page.click("#all")
    assert len(listed(page)) == len(page.evaluate("page.test"))

    page.locator("#matrix button").first.focus()
    for key, times in (("ArrowDown", actual), ("ArrowRight", taken)):
        for _ in range(times):
            page.keyboard.press(key)
    page.keyboard.press("Enter")
    assert listed(page) == expected
    # One press of Tab leaves the matrix, and arrows walk down the list, where clips play at once.
    page.focus("#all")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    assert playing(page) == expected[0]
    page.click("#list button >> nth=-1")
    assert playing(page) == expected[-1]


def test_an_action_of_the_legend_and_an_outcome_choose_clips(opened: Open) -> None:
    page = opened("one.html")
    data = page.evaluate("page.test")
    page.click('#legend button:has-text("sit down")')
    page.select_option("#outcome", "wrong")
    wrong = [c["name"] for c in data if c["label"] == 1 and c["guesses"][0][0] != 1]
    assert listed(page) == wrong
    assert page.inner_text("#count") == f"{len(wrong)} clips of 2 sit down, wrong"


def test_space_pauses_and_the_controls_change_the_picture(opened: Open) -> None:
    page = opened("one.html")
    page.locator("#maps canvas").first.focus()
    page.keyboard.press("Space")
    page.wait_for_timeout(50)
    assert not moves(page, "#query canvas")
    still = picture(page, "#query canvas")
    page.check("#numbers")
    page.wait_for_timeout(50)
    numbered = picture(page, "#query canvas")
    page.focus("#turn")
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(50)
    assert len({still, numbered, picture(page, "#query canvas")}) == 3
    page.locator("#maps canvas").first.focus()
    page.keyboard.press("Space")
    assert moves(page, "#query canvas")


def test_nothing_moves_by_itself_where_less_motion_is_asked_for(opened: Open) -> None:
    page = opened("one.html", reduced_motion="reduce")
    assert not moves(page, "#query canvas")
    page.click("#play")
    assert moves(page, "#query canvas")


def test_two_runs_of_a_protocol_stand_side_by_side_on_one_clip(opened: Open, folder: Path) -> None:
    page = opened("one.html")
    ours = {clip["name"]: clip for clip in page.evaluate("page.test")}
    page.set_input_files("#other", folder / "two.html")
    page.wait_for_selector("#runs h2:has-text('two')")
    theirs = {clip["name"]: clip for clip in page.evaluate("runs[1].test")}
    page.select_option("#outcome", "right only here")

    def right(clip: dict[str, Any]) -> bool:
        return bool(clip["guesses"][0][0] == clip["label"])

    expected = [name for name, clip in ours.items() if right(clip) and not right(theirs[name])]
    assert listed(page) == expected
    page.click("#list button >> nth=0")
    assert page.locator("#runs h2").all_inner_texts() == ["one", "two"]
    near = page.locator(".near").nth(1).locator("figcaption").all_inner_texts()
    shown = [said.split("distance ")[1].split("\n")[0] for said in near]
    assert shown == [f"{distance:.3f}" for _, distance in theirs[expected[0]]["near"]]
    assert page.locator("#maps h2").all_inner_texts() == ["one, pretrained", "two, pretrained"]


@pytest.mark.parametrize(
    ("name", "said"),
    [("far.html", "far.html is of mine, protocol xview"), ("mine-clips.html", "not the page of a")],
)
def test_a_page_that_cannot_be_compared_is_refused(
    opened: Open, folder: Path, name: str, said: str
) -> None:
    page = opened("one.html")
    page.set_input_files("#other", folder / name)
    page.wait_for_function(f"document.getElementById('compared').textContent.includes({said!r})")
    assert page.locator("#runs h2").all_inner_texts() == ["one"]


# ---- A dataset -----------------------------------------------------------------------------------


def test_a_dataset_plays_in_a_grid_by_action_and_by_subject(opened: Open) -> None:
    page = opened("mine-clips.html")
    data = page.evaluate("page.shown")

    def names() -> set[str]:
        said = page.locator("figcaption .quiet").all_inner_texts()
        return {line.split(",")[0] for line in said}

    assert names() == {clip["name"] for clip in data if clip["label"] == 0}
    assert all(moves(page, f"figure:nth-child({n}) canvas") for n in (1, len(names())))
    page.click("#next")
    assert names() == {clip["name"] for clip in data if clip["label"] == 1}
    page.focus("#previous")
    page.keyboard.press("Enter")
    assert names() == {clip["name"] for clip in data if clip["label"] == 0}
    page.select_option("#by", "subject")
    page.focus("#value")
    page.keyboard.press("ArrowDown")
    page.wait_for_timeout(100)
    assert names() == {clip["name"] for clip in data if clip["subject"] == 2}
