"""The chat page in a real headless Chromium: each thing that a person can do with it, and what may go wrong.

Screenshots go to the folder that NANOCHAT_SCREENSHOTS names, if it does.
"""

import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_serving import CONTEXT, TOKENIZER, Answering, Counter, make_app, running, with_call
from torch import Tensor

from nanochat.inference.engine import Engine
from nanochat.runtime import local_runtime
from nanochat.serving.app import create_app, create_server
from nanochat.serving.engine_thread import EngineThread
from nanochat.serving.models import Models

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")
expect = playwright.expect
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SLOW = TOKENIZER.encode("on and ")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server whose answers call a tool."""
    with running(make_app(with_call("So: ", "strawberry", " is ten."))) as found:
        yield found


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A fresh browser's page, which asks nobody but the server it came from and logs no error of a script."""
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    made = context.new_page()
    made.set_default_timeout(20_000)
    faults: list[str] = []
    made.on("pageerror", lambda fault: faults.append(str(fault)))
    hosts: set[str] = set()
    made.on("request", lambda request: hosts.add(re.sub(r"^(\w+:/?/?[^/]*).*", r"\1", request.url)))
    yield made
    assert faults == []
    assert all(re.match(r"http://127\.0\.0\.1:\d+$|blob:", host) for host in hosts), hosts
    context.close()


def send(page: Any, text: str) -> None:
    page.get_by_label("Your message").fill(text)
    page.get_by_role("button", name="Send", exact=True).click()


def messages(page: Any) -> list[str]:
    return [" ".join(text.split()) for text in page.locator(".message .body").all_inner_texts()]


def answered(page: Any, count: int = 2) -> None:
    """Wait until so many messages are there and none is being written."""
    expect(page.locator(".message")).to_have_count(count)
    expect(page.locator(".writing")).to_have_count(0)
    expect(page.get_by_role("button", name="Send", exact=True)).to_be_visible()


def click(page: Any, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def shoot(page: Any, name: str) -> None:
    if folder := os.environ.get("NANOCHAT_SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def serving(answer: str, **changes: Any) -> Any:
    return running(make_app(TOKENIZER.encode(answer), **changes))


# Talking


def test_a_question_is_answered_with_its_tool_call_its_counts_and_its_speed(page: Any, url: str) -> None:
    page.goto(url)
    send(page, "How many letters?")
    answered(page)
    assert messages(page) == ["How many letters?", "So: strawberry = 10 is ten."]
    assert page.locator("code.tool").inner_text() == "strawberry = 10"
    expect(page.locator(".assistant .figures")).to_have_text(re.compile(r"\d+ tokens · \d+ tokens/s · prompt \d+"))
    send(page, "And?")
    answered(page, 4)
    expect(page.locator(".assistant .figures").last).to_have_text(re.compile("of them cached"))
    shoot(page, "desktop")


def test_an_answer_can_be_stopped_by_button_and_by_key_and_keeps_what_was_shown(page: Any) -> None:
    with running(make_app(SLOW, endless=True, seconds=0.02)) as url:
        page.goto(url)
        for way in ("button", "key"):
            before = len(messages(page))
            send(page, "Go on")
            expect(page.locator(".writing .body")).to_contain_text("on and on and")
            if way == "button":
                page.get_by_role("button", name="Stop").click()
            else:
                page.keyboard.press("Escape")
            answered(page, before + 2)
            expect(page.get_by_role("status")).to_have_text("Stopped.")
            assert messages(page)[-1].startswith("on and on and")


def test_an_answer_is_made_anew_and_a_question_is_edited_and_sent_again(page: Any, url: str) -> None:
    page.goto(url)
    send(page, "One?")
    answered(page)
    send(page, "Two?")
    answered(page, 4)
    with page.expect_request("**/v1/chat/completions") as asked:
        page.get_by_role("button", name="Regenerate").click()
    sent = json.loads(asked.value.post_data)["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "user"]
    answered(page, 4)
    page.get_by_role("button", name="Edit").first.click()
    page.get_by_label("Edit the message").fill("Three?")
    page.get_by_role("button", name="Send again").click()
    answered(page)
    assert messages(page)[0] == "Three?"
    page.get_by_role("button", name="Edit").first.click()
    page.keyboard.press("Escape")
    assert messages(page)[0] == "Three?"


def test_an_answer_is_copied(page: Any, url: str) -> None:
    page.goto(url)
    send(page, "One?")
    answered(page)
    page.locator(".assistant").get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == "So: [strawberry] is ten."


# What is written is never code


EVIL = """<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>
[click](javascript:document.title='owned') ![x](https://outside.example/x.png)

```html
<b>bold</b>
```"""


def test_neither_a_model_nor_a_user_can_put_html_or_a_script_into_the_page(page: Any) -> None:
    with serving(EVIL) as url:
        page.goto(url)
        send(page, EVIL)
        answered(page)
        assert page.locator("#messages img, #messages script, #messages b, #messages iframe").count() == 0
        hrefs = page.locator("#messages a").evaluate_all("all => all.map((link) => link.protocol)")
        assert set(hrefs) <= {"https:"}
        assert page.title() == "nanochat"
        assert "<script>document.title='owned'</script>" in messages(page)[1]
        assert page.locator("#messages pre code").inner_text() == "<b>bold</b>"
        page.reload()
        answered(page)
        assert page.title() == "nanochat" and page.locator("#messages img, #messages script").count() == 0


MARKDOWN = """# Head
Some **bold**, *slanted* and `code * x`, 2 * 3 * 4, snake_case_name.

- one
- two
  - inner

3. three
4. four

> said

| a | b |
|---|---|
| 1 | 2 |

```
x = "**no**"

y
```"""


def test_markdown_becomes_elements(page: Any) -> None:
    with serving(MARKDOWN) as url:
        page.goto(url)
        send(page, "Go")
        answered(page)
        found = page.locator(".assistant .text")
        shape = found.evaluate("element => [...element.children].map((child) => child.tagName).join(' ')")
        assert shape == "H3 P UL OL BLOCKQUOTE TABLE PRE"
        assert found.locator("strong").all_inner_texts() == ["bold"]
        assert found.locator("em").all_inner_texts() == ["slanted"]
        assert found.locator("p code").all_inner_texts() == ["code * x"]
        assert "2 * 3 * 4, snake_case_name." in found.locator("p").first.inner_text()
        assert found.locator("ul ul li").all_inner_texts() == ["inner"]
        assert found.locator("ol").get_attribute("start") == "3"
        assert found.locator("td").all_inner_texts() == ["1", "2"]
        assert found.locator("pre").inner_text() == 'x = "**no**"\n\ny'


def test_while_an_answer_grows_its_finished_blocks_stay_the_same_elements(page: Any, url: str) -> None:
    page.goto(url)
    kept = page.evaluate(
        """async () => {
          const { showMarkdown } = await import("/static/markdown.js");
          const element = document.createElement("div");
          showMarkdown(element, "one\\n\\n```\\ncode");
          const [first, second] = element.children;
          showMarkdown(element, "one\\n\\n```\\ncode\\n```\\n\\nthree");
          return [element.children[0] === first, element.children[1] === second, element.children.length];
        }"""
    )
    assert kept == [True, False, 3]


def test_a_call_of_a_tool_with_tokens_of_its_own_is_shown_by_the_tools_name(page: Any, url: str) -> None:
    page.goto(url)
    shown = page.evaluate(
        """async () => {
          const { join, plainText, showParts } = await import("/static/parts.js");
          const parts = [];
          join(parts, { type: "python", text: "", tool: "search" });
          join(parts, { type: "python", text: "<b>x" });
          join(parts, { type: "python_output", text: "" });
          join(parts, { type: "python_output", text: "42" });
          join(parts, { type: "python", text: "1+1" });
          const element = document.createElement("div");
          showParts(element, parts);
          return [[...element.children].map((child) => child.textContent), plainText(parts)];
        }"""
    )
    assert shown == [["search: <b>x = 42", "1+1"], "[search: <b>x][1+1]"]


# Settings


def test_system_prompt_and_sampling_are_sent_and_kept(page: Any, url: str) -> None:
    page.goto(url)
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("System prompt").fill("Be kind.")
    page.get_by_label("Temperature").fill("0.5")
    page.get_by_label("Longest answer").fill("3")
    page.get_by_role("button", name="Done").click()
    page.reload()
    with page.expect_request("**/v1/chat/completions") as asked:
        send(page, "Hi")
    sent = json.loads(asked.value.post_data)
    assert sent["messages"][0] == {"role": "system", "content": "Be kind."}
    assert (sent["temperature"], sent["max_tokens"]) == (0.5, 3)
    answered(page)
    expect(page.get_by_role("status")).to_contain_text("The answer was cut")


class Undecided(Answering):
    """One letter, each as likely as any other."""

    def logits(self, hidden: Tensor) -> Tensor:
        logits = super().logits(hidden)
        letters = [TOKENIZER.encode(letter)[0] for letter in "abcdefghijklmnopqrstuvwxyz"]
        for row in logits:
            if row[self.answer[0]] > 0:
                row[letters] = 10.0
        return logits


def test_an_answer_that_is_made_anew_is_another_one_unless_a_temperature_was_chosen(page: Any) -> None:
    model: Any = Undecided(TOKENIZER.encode("a"))
    engine = Engine(model, TOKENIZER, local_runtime(), tools=[Counter()], rows=1)
    with running(create_app(engine, model="tiny")) as url:
        page.goto(url)
        send(page, "A letter?")
        answered(page)
        first, found = messages(page)[1], set()
        for _ in range(6):
            click(page, "Regenerate")
            answered(page)
            found.add(messages(page)[1])
        assert len(found) > 1
        click(page, "New chat")
        send(page, "A letter?")
        answered(page)
        assert messages(page)[1] == first
        click(page, "Settings")
        page.get_by_label("Temperature").fill("0")
        click(page, "Done")
        click(page, "Regenerate")
        answered(page)
        assert messages(page)[1] == first


def test_no_other_browser_is_told_by_the_cache_what_was_asked_here(page: Any, browser: Any, url: str) -> None:
    def cached(asking: Any) -> bool:
        click(asking, "New chat")
        send(asking, "Is anybody else asking of the zebra?")
        answered(asking)
        return "cached" in asking.locator(".assistant .figures").inner_text()

    page.goto(url)
    assert [cached(page), cached(page)] == [False, True]
    page.reload()
    assert cached(page)
    other = browser.new_context()
    elsewhere = other.new_page()
    elsewhere.goto(url)
    assert not cached(elsewhere)
    other.close()


def test_the_model_can_be_chosen_as_soon_as_it_is_loaded_and_stays_chosen(page: Any) -> None:
    models = Models()

    def load(name: str) -> None:
        model: Any = Answering(TOKENIZER.encode(f"I am the {name}"))
        models.add(name, [EngineThread(Engine(model, TOKENIZER, local_runtime(), tools=[Counter()], rows=1))])

    with running(create_server(models, start=lambda: load("first"))) as url:
        page.goto(url)
        chooser = page.get_by_label("Model", exact=True)
        expect(chooser).to_have_value("first")
        send(page, "Who are you?")
        answered(page)
        load("second")
        models.ready = True
        chooser.select_option("second")
        send(page, "And who are you?")
        answered(page, 4)
        assert messages(page)[3] == "I am the second"
        page.reload()
        expect(chooser).to_have_value("second")


def test_light_and_dark_follow_the_system_or_what_was_chosen(page: Any, url: str) -> None:
    def background() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    light, dark = "rgb(251, 250, 248)", "rgb(23, 25, 27)"
    page.goto(url)
    for scheme, expected in (("light", light), ("dark", dark)):
        page.emulate_media(color_scheme=scheme)
        assert background() == expected
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Colours").select_option("light")
    page.get_by_role("button", name="Done").click()
    page.reload()
    assert background() == light


# For everybody


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """axe-core, from npm."""
    folder = tmp_path_factory.mktemp("axe")
    if shutil.which("npm") is None:
        pytest.skip("no npm here to get axe-core with")
    try:
        command = ["npm", "pack", "--silent", "axe-core@4.10.3"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as fault:
        pytest.skip(f"axe-core cannot be had: {fault}")
    (packed,) = folder.glob("*.tgz")
    with tarfile.open(packed) as archive:
        member = archive.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_axe_finds_no_violation(browser: Any, url: str, axe: str, width: int, scheme: str) -> None:
    context = browser.new_context(
        bypass_csp=True, color_scheme=scheme, viewport={"width": width, "height": 844}, reduced_motion="reduce"
    )
    page = context.new_page()
    page.goto(url)
    page.evaluate(axe)
    for state in ("empty", "answered", "unanswered", "menu", "settings"):
        if state == "answered":
            send(page, "How many letters?")
            answered(page)
        elif state == "unanswered":
            context.set_offline(True)
            page.get_by_role("button", name="Edit").click()
            click(page, "Send again")
            send(page, "And now?")
            expect(page.get_by_role("button", name="Try again")).to_be_visible()
            context.set_offline(False)
        elif state == "menu" and width < 700:
            page.get_by_role("button", name="Chats").click()
        elif state == "settings":
            page.evaluate("document.getElementById('settings').showModal()")
        found = page.evaluate("axe.run()")["violations"]
        assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found] == [], state
        shoot(page, f"{state}-{width}-{scheme}")
    context.close()


def test_on_a_phone_nothing_is_wider_than_the_screen_and_the_chats_are_one_tap_away(page: Any, url: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(url)
    send(page, "x" * 300)
    answered(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    expect(page.locator("#sidebar")).to_be_hidden()
    page.get_by_role("button", name="Chats").click()
    page.get_by_role("button", name="New chat").click()
    expect(page.locator("#sidebar")).to_be_hidden()
    expect(page.locator(".message")).to_have_count(0)


def test_everything_is_reached_by_keyboard_alone(page: Any, url: str) -> None:
    page.goto(url)
    page.keyboard.type("How many?")
    page.keyboard.press("Enter")
    answered(page)
    wanted = {"New chat", "Export", "Import", "Settings", "Send", "Copy", "Edit", "Regenerate", "model", "search"}
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.textContent.trim()"))
        reached.add(page.evaluate("document.activeElement.id"))
    assert wanted <= reached
    page.get_by_role("button", name="Settings").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("System prompt")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()


# What goes wrong is said in words


def test_overload_a_server_that_has_gone_and_an_empty_answer_are_said_in_words(page: Any) -> None:
    with running(make_app(SLOW, endless=True, seconds=0.02, rows=1, capacity=1)) as url:
        page.goto(url)
        other = page.context.new_page()
        other.goto(url)
        send(other, "Go on")
        expect(other.locator(".writing .body")).to_contain_text("on")
        send(page, "Me too")
        expect(page.get_by_role("status")).to_have_text("The server is busy. Try again in 2 seconds.")
        assert messages(page) == ["Me too"]
        other.close()
    send(page, "Are you there?")
    expect(page.get_by_role("status")).to_have_text("The server cannot be reached. Is it still running?")
    with serving("") as url:
        page.goto(url)
        send(page, "Well?")
        expect(page.get_by_role("status")).to_have_text("The model had nothing to say.")
        assert messages(page) == ["Well?"]
        expect(page.get_by_role("button", name="Try again")).to_be_visible()


def test_where_the_context_is_full_the_oldest_turns_are_left_out_only_if_one_wants(page: Any) -> None:
    with serving("word " * 20) as url:
        page.goto(url)
        long = "zq" * (CONTEXT // 4 - 40)
        for count in (2, 4):
            send(page, long if count == 2 else "short")
            answered(page, count)
        send(page, "zq" * (CONTEXT // 4))
        expect(page.get_by_role("status")).to_contain_text("no longer fits into the context")
        assert messages(page)[0] == long
        page.get_by_role("button", name="Leave out the oldest turns and send").click()
        answered(page, 4)
        assert messages(page)[0] == "short"
