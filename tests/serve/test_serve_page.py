"""The page of `bertnli serve`: its colours, its files, and what it does in a browser."""

import re
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from colours import contrast, parsed

import bertnli

FOLDER = Path(bertnli.__file__).parent / "serve" / "static"
STYLE = (FOLDER / "style.css").read_text()
#: Text and its background; WCAG's AA demands a contrast of 4.5.
TEXTS = (
    "ink/ground ink/card soft/ground soft/card accent/ground problem/card problem/ground "
    "on-accent/accent"
)
#: Shapes and their background; AA demands 3.
SHAPES = "edge/ground edge/card focus/ground focus/card accent/card accent/track quiet/card"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_contrasts_are_aa(dark):
    """Words are also readable on every shade of the colours that show their shares."""
    light, _, rest = STYLE.partition("@media (prefers-color-scheme: dark)")
    values = dict(re.findall(r"--([a-z-]+): ([^;]+);", light))
    if dark:
        values |= re.findall(r"--([a-z-]+): ([^;]+);", rest.partition("\n}\n")[0])
    strength = float(values.pop("strength"))
    values = {name: parsed(value) for name, value in values.items()}
    for pairs, least in ((TEXTS, 4.5), (SHAPES, 3.0)):
        for a, b in (pair.split("/") for pair in pairs.split()):
            assert contrast(values[a], values[b]) >= least, (a, b)
    for tint in ("for", "against", "look"):
        for share in np.linspace(0, 1, 101):
            mix = zip(values[tint], values["card"], strict=True)
            ground = [share * strength * a + (1 - share * strength) * b for a, b in mix]
            assert contrast(values["ink"], ground) >= 4.5
            if share <= 0.2:  # above, special tokens are in ink
                assert contrast(values["soft"], ground) >= 4.5


def test_the_page_names_no_other_host():
    for path in FOLDER.iterdir():
        hosts = re.findall(r"(?:https?:)?//[\w.-]+\.\w+", path.read_text())
        assert set(hosts) <= {"http://www.w3.org"}, path.name
    page = (FOLDER / "index.html").read_text()
    assert not re.search(r"<style|style=|<script(?! type=\"module\" src)|\son\w+=", page)


# In a browser from here on.

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SIZES = {"wide": (1280, 800), "phone": (390, 844), "narrow": (360, 640)}


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright  # the extra `browser`

    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("chromium-browser")
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()


class Visit:
    """An open page, with the browser's complaints."""

    def __init__(self, browser, served, size, scheme="light"):
        width, height = SIZES[size]
        self.context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            has_touch=size != "wide",
            reduced_motion="reduce",
        )
        self.page = self.context.new_page()
        self.complaints = []
        self.hosts = set()
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        self.page.goto(served.url)
        self.page.wait_for_selector("#words:not([hidden])")
        self.host = urlsplit(served.url).netloc

    def ask(self, premise, hypothesis):
        """Type two sentences, and press Enter."""
        self.page.get_by_label("Premise", exact=True).first.fill(premise)
        self.page.get_by_label("Hypothesis", exact=True).first.fill(hypothesis)
        with self.page.expect_response("**/explain"):
            self.page.keyboard.press("Enter")
        self.page.wait_for_selector("#form[aria-busy=false]")

    def texts(self, selector):
        return self.page.locator(selector).all_inner_texts()

    def close(self):
        self.context.close()
        assert not self.complaints
        assert self.hosts == {self.host}


@pytest.fixture
def visit(browser, served, request):
    visit = Visit(browser, served, *getattr(request, "param", ("wide",)))
    yield visit
    visit.close()


@pytest.mark.browser
def test_what_is_typed_is_answered_by_both(visit, served):
    visit.ask("Two dogs are running on the beach.", "Animals are outdoors.")
    assert visit.page.locator("#verdict").inner_text().startswith("Entailment, with ")
    assert visit.texts("#answers h3") == ["PyTorch", "MXNet"]
    _, content = served.ask(
        {"premise": "Two dogs are running on the beach.", "hypothesis": "Animals are outdoors."}
    )
    probabilities = content["predictions"][0]["probabilities"]
    assert visit.texts(".bars .name") == list(probabilities) * 2
    percents = [f"{100 * p:.1f} %" for p in probabilities.values()]
    assert visit.texts(".bars .number") == percents * 2
    widths = visit.page.eval_on_selector_all(
        ".fill", "fills => fills.map(f => f.clientWidth / f.parentElement.clientWidth)"
    )
    assert widths == pytest.approx(list(probabilities.values()) * 2, abs=0.01)
    assert re.search(r"at most 0\.0000+\d|to the last digit", visit.texts("#difference")[0])


@pytest.mark.browser
def test_an_example_is_asked(visit):
    examples = visit.page.locator(".example")
    assert examples.count() == 6
    for i in range(6):
        with visit.page.expect_response("**/explain"):
            examples.nth(i).click()
        visit.page.wait_for_selector("#form[aria-busy=false]")
        sentences = examples.nth(i).locator("span").all_inner_texts()
        assert visit.page.locator("#premise").input_value() == sentences[0]
        assert visit.page.locator("#hypothesis").input_value() == sentences[1]


@pytest.mark.browser
def test_words_show_where_they_look(visit, served):
    visit.ask("A man is asleep.", "A man is awake.")
    _, content = served.ask(
        {"premise": "A man is asleep.", "hypothesis": "A man is awake."}, "/explain"
    )
    words = visit.page.locator(".word")
    assert words.all_inner_texts() == content["tokens"]
    last = content["tokens"].index("awake")
    detail = visit.page.locator("#detail")
    assert detail.inner_text().startswith("Counts most: ")
    words.nth(last).hover()
    assert detail.inner_text().startswith("“awake” looks most at ")

    def shares():
        return visit.page.eval_on_selector_all(
            ".word", "words => words.map(w => Number(w.style.getPropertyValue('--share')))"
        )

    def expected(weights):
        full = next(scale for scale in (0.1, 0.2, 0.5, 1) if scale >= max(weights))
        return pytest.approx([w / full if w >= 0.01 else 0 for w in weights], abs=2e-3)

    heads = [head[last] for block in content["attention"] for head in block]
    assert shares() == expected([sum(column) / len(heads) for column in zip(*heads, strict=True)])
    visit.page.locator("#block").select_option(label="3")
    visit.page.locator("#head").select_option(label="2")
    visit.page.mouse.move(0, 0)
    words.nth(last).hover()
    assert shares() == expected(content["attention"][2][1][last])
    visit.page.keyboard.press("Escape")
    assert detail.inner_text().startswith("Counts most: ")
    assert shares() == expected([abs(s) for s in content["saliency"]])


@pytest.mark.browser
def test_the_keyboard_is_enough(visit):
    page = visit.page
    page.locator("#hypothesis").focus()
    page.keyboard.press("Tab")
    focused = "document.activeElement.className || document.activeElement.id"
    assert page.evaluate(focused) == "primary"
    with page.expect_response("**/explain"):
        page.keyboard.press("Space")
    page.wait_for_selector("#form[aria-busy=false]")
    page.keyboard.press("Tab")
    assert "word" in page.evaluate(focused)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert (
        page.evaluate("document.activeElement.textContent")
        == page.locator(".word").nth(2).inner_text()
    )
    assert "looks most at" in page.locator("#detail").inner_text()
    ring = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert ring == "solid"
    page.keyboard.press("Escape")
    assert "Counts most" in page.locator("#detail").inner_text()
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "block"


@pytest.mark.browser
def test_what_is_wrong_is_said_and_nothing_of_it_runs(visit):
    page = visit.page
    page.locator("#premise").fill("  ")
    page.locator("#premise").press("Enter")
    assert visit.texts("#problem") == ["Give a premise."]
    attack = "<img src=x onerror=alert(1)><b>A man</b> & “a dog”"
    visit.ask(attack, "A man is awake.")
    assert "The model does not know" in visit.texts("#problem")[0]
    assert page.locator("main img, main b").count() == 0


@pytest.mark.browser
def test_an_error_leaves_no_answer_to_other_sentences(visit):
    page = visit.page
    for sentence, problem in (
        ("long " * 500, "a sentence may have 2,000"),
        (" ", "Give a premise."),
    ):
        visit.ask("A man is asleep.", "A man is awake.")
        assert page.locator("#answer").is_visible() and page.locator("#words").is_visible()
        page.locator("#premise").fill(sentence)
        page.locator("#premise").press("Enter")
        page.wait_for_selector("#problem:not([hidden])")
        assert problem in visit.texts("#problem")[0]
        for gone in ("#answer", "#words", "#old"):
            assert page.locator(gone).is_hidden(), gone
    assert all("422" in complaint for complaint in visit.complaints)
    visit.complaints.clear()


@pytest.mark.browser
def test_an_answer_to_other_sentences_is_marked(visit):
    page = visit.page
    visit.ask("A man is asleep.", "A man is awake.")
    assert page.locator("#old").is_hidden() and page.locator(".old").count() == 0
    page.locator("#hypothesis").fill("A man is happy.")
    assert "sentences before your change" in visit.texts("#old")[0]
    assert page.locator(".old").count() == 2
    page.locator("#hypothesis").fill("A man is awake. ")  # only a space differs
    assert page.locator("#old").is_hidden() and page.locator(".old").count() == 0


@pytest.mark.browser
def test_colours_have_a_scale_in_points(visit):
    """Equal shares have equal colours, whatever the others; a share below a point has none."""
    page = visit.page
    shares = {"asleep": 0.34, "man": 0.0099, "awake": -0.25, "is": 0.01, "bench": -0.004}

    def answer(route):
        content = route.fetch().json()
        content["saliency"] = [shares.get(token, 0.0) for token in content["tokens"]]
        route.fulfill(json=content)

    def colours_of(*tokens):
        script = "word => getComputedStyle(word).backgroundColor"
        return [page.locator(".word", has_text=token).first.evaluate(script) for token in tokens]

    page.route("**/explain", answer)
    visit.ask("A man is asleep on a bench.", "The man is awake.")
    steps = ["−50", "−25", "−1", "less than 1", "+1", "+25", "+50"]
    assert visit.texts("#scale .swatch") == steps
    assert visit.texts("#scale")[0].split()[-1] == "points"
    man, bench, on, is_, awake = colours_of("man", "bench", "on", "is", "awake")
    assert all(colour.endswith(", 0)") for colour in (man, bench, on))  # nothing shines through
    assert not is_.endswith(", 0)")
    swatch = page.locator("#scale .swatch").nth(1)
    assert awake == swatch.evaluate("swatch => getComputedStyle(swatch).backgroundColor")
    shares["asleep"] = 0.04
    shares["awake"] = 0.0
    visit.ask("A man is asleep on a bench.", "The man is awake now.")
    assert visit.texts("#scale .swatch")[-1] == "+10"
    shares |= dict.fromkeys(shares, 0.002)
    visit.ask("A man is asleep on a bench.", "The man is awake.")
    assert visit.texts("#detail") == ["No word counts for a point or more."]


@pytest.mark.browser
@pytest.mark.parametrize("visit", [("narrow",), ("phone", "dark"), ("phone",)], indirect=True)
def test_a_phone_needs_no_scrolling_to_the_side(visit):
    visit.ask("A " + "very " * 30 + "old man.", "Antidisestablishmentarianism" * 4 + " is a word.")
    page = visit.page
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    visit.page.locator(".word").nth(2).tap()
    assert "looks most at" in page.locator("#detail").inner_text()
