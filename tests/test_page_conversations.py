"""The chat page's conversations in a real Chromium: nothing that was asked or answered is lost, whatever goes wrong."""
# ruff: noqa: F811 (fixtures are given by the names under which they are imported)

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_page import CHROMIUM, SLOW, answered, browser, click, messages, page, send, serving, shoot, url  # noqa: F401
from test_serving import make_app, running

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")
expect = playwright.expect


def stored(page: Any) -> list[list[str]]:
    """What this browser keeps: each conversation's messages, those of answers in their parts' texts."""
    kept = page.evaluate("Object.entries(localStorage)")
    found = [json.loads(text)["messages"] for key, text in kept if key.startswith("nanochat.conversation.")]
    texts = [[message["content"] for message in each] for each in found]
    return [[c if isinstance(c, str) else "".join(part["text"] for part in c) for c in each] for each in texts]


# Kept in the browser


def test_conversations_are_kept_found_exported_imported_and_deleted(page: Any, url: str, tmp_path: Path) -> None:
    page.goto(url)
    for text in ("About apples", "About pears"):
        page.get_by_role("button", name="New chat").click()
        send(page, text)
        answered(page)
    page.reload()
    answered(page)
    assert messages(page)[0] == "About pears"
    page.get_by_label("Search conversations").fill("APPLES about")
    entries = page.locator("#conversations .open")
    assert entries.all_inner_texts() == ["About apples"]
    entries.first.click()
    assert messages(page)[0] == "About apples"
    with page.expect_download() as saving:
        page.get_by_role("button", name="Export").click()
    saving.value.save_as(tmp_path / "all.json")
    assert len(json.loads((tmp_path / "all.json").read_text())["conversations"]) == 2
    page.get_by_label("Search conversations").fill("")
    for name in ("About apples", "About pears"):
        page.get_by_role("button", name=f"Delete {name}").click()
    expect(entries).to_have_count(0)
    page.locator("#file").set_input_files(tmp_path / "all.json")
    expect(entries).to_have_count(2)
    (tmp_path / "other.json").write_text('{"conversations": 3}')
    page.locator("#file").set_input_files(tmp_path / "other.json")
    expect(page.get_by_role("status")).to_have_text("other.json holds no exported conversations.")
    expect(entries).to_have_count(2)


def test_what_is_imported_takes_the_place_of_nothing_newer(page: Any, url: str, tmp_path: Path) -> None:
    page.goto(url)
    send(page, "One?")
    answered(page)
    with page.expect_download() as saving:
        click(page, "Export")
    exported = tmp_path / "all.json"
    saving.value.save_as(exported)
    send(page, "Two?")
    answered(page, 4)
    status = page.get_by_role("status")
    page.locator("#file").set_input_files(exported)
    expect(status).to_have_text("0 of 1 conversations were imported. What was here is as new, or newer.")
    assert [len(each) for each in stored(page)] == [4] and len(messages(page)) == 4
    given = json.loads(exported.read_text())
    given["conversations"][0]["updated"] += 10**9
    exported.write_text(json.dumps(given))
    page.locator("#file").set_input_files(exported)
    expect(status).to_have_text("1 of 1 conversations were imported.")
    assert [len(each) for each in stored(page)] == [2] and len(messages(page)) == 2


def test_what_others_may_have_written_into_a_file_is_shown_edited_and_sent_or_left_out(
    page: Any, url: str, tmp_path: Path
) -> None:
    said = {"role": "assistant", "content": "x", "usage": "y", "seconds": {}}
    asked = {"role": "user", "content": [{"type": "text", "text": "How many "}, {"type": "text", "text": "letters?"}]}
    conversations = [
        {"id": number, "title": "", "updated": 1, "messages": messages}
        for number, messages in (("fits", [asked, said]), ("no question first", [said, asked]), ("none", [{}]))
    ]
    path = tmp_path / "theirs.json"
    path.write_text(json.dumps({"format": "nanochat-conversations", "conversations": conversations}))
    page.goto(url)
    page.locator("#file").set_input_files(path)
    expect(page.get_by_role("status")).to_have_text("1 of 1 conversations were imported.")
    click(page, "Untitled")
    assert page.locator(".figures").last.inner_text() == ""
    page.get_by_role("button", name="Edit").click()
    expect(page.get_by_label("Edit the message")).to_have_value("How many letters?")
    click(page, "Send again")
    answered(page)
    assert messages(page) == ["How many letters?", "So: strawberry = 10 is ten."]


def test_two_tabs_that_go_on_with_one_conversation_lose_nothing_of_each_others(page: Any, url: str) -> None:
    page.goto(url)
    send(page, "One?")
    answered(page)
    other = page.context.new_page()
    other.goto(url)
    answered(other)
    for count, asking, watching in ((4, page, other), (6, other, page)):
        send(asking, "And?")
        answered(asking, count)
        answered(watching, count)
    assert [len(each) for each in stored(page)] == [6]


FILL = """() => {
  for (let size = 2 ** 20; size >= 1; size = Math.floor(size / 2)) {
    try {
      while (true) localStorage.setItem(`filler${Math.random()}`, "x".repeat(size));
    } catch {
      // no more of this size
    }
  }
}"""


def test_a_browser_without_room_says_so_and_keeps_what_it_has(page: Any, url: str, tmp_path: Path) -> None:
    page.goto(url)
    send(page, "One?")
    answered(page)
    kept = stored(page)
    large = {"id": "large", "title": "Large", "updated": 1, "messages": [{"role": "user", "content": "x" * 10**6}]}
    small = {"id": "small", "title": "Small", "updated": 1, "messages": [{"role": "user", "content": "x"}]}
    file = tmp_path / "large.json"
    given = {"format": "nanochat-conversations", "version": 1, "conversations": [large, small]}
    file.write_text(json.dumps(given))
    page.evaluate("localStorage.setItem('filler', 'x'.repeat(4.5 * 2 ** 20))")
    page.locator("#file").set_input_files(file)
    expect(page.get_by_role("status")).to_have_text(
        "1 of 2 conversations were imported. This browser has no room left for conversations. Export and delete some."
    )
    assert sorted(stored(page)) == sorted([*kept, ["x"]])
    page.evaluate(FILL)
    send(page, "Two?")
    answered(page, 4)
    expect(page.get_by_role("status")).to_contain_text("no room left")
    page.reload()
    assert messages(page) == ["One?", "So: strawberry = 10 is ten."]


def test_a_reload_in_the_middle_of_an_answer_loses_nothing_that_was_shown(page: Any) -> None:
    with running(make_app(SLOW, endless=True, seconds=0.02)) as url:
        page.goto(url)
        send(page, "Go on")
        expect(page.locator(".writing .body")).to_contain_text("on and on and on")
        shown = page.evaluate("document.querySelector('.assistant .body').innerText.length")
        page.reload()
        answered(page)
        text = messages(page)[1]
        assert text.startswith("on and on and on") and len(text) >= shown - 1
        expect(page.locator(".assistant .figures")).to_have_text("broken off")
        page.get_by_role("button", name="Regenerate").click()
        expect(page.locator(".writing .body")).to_contain_text("on and on")
        page.get_by_role("button", name="Stop").click()


# What goes wrong takes nothing away


@pytest.fixture
def busy(browser: Any) -> Iterator[Callable[..., None]]:
    """Has another browser ask a server of one row, which is busy until this is called again, without an address."""
    others: list[Any] = []

    def ask(url: str = "") -> None:
        for other in others:
            other.close()
        if url:
            others.append(browser.new_page())
            others[-1].goto(url)
            send(others[-1], "Go on")
            expect(others[-1].locator(".writing .body")).to_contain_text("on")

    yield ask
    ask()


def test_a_question_that_waits_for_its_answer_is_lost_neither_by_a_reload_nor_by_a_look_elsewhere(
    page: Any, busy: Callable[..., None]
) -> None:
    with running(make_app(SLOW, endless=True, seconds=0.05, rows=1)) as url:
        busy(url)
        page.goto(url)
        send(page, "First?")
        expect(page.locator(".writing")).to_have_count(1)
        page.reload()
        expect(page.locator(".user .figures")).to_have_text("not answered")
        assert (messages(page), stored(page)) == (["First?"], [["First?"]])
        for elsewhere in ("New chat", "First?"):
            click(page, "Try again")
            expect(page.locator(".writing")).to_have_count(1)
            click(page, elsewhere)
            expect(page.locator(".writing")).to_have_count(0)
            assert stored(page) == [["First?"]]
            click(page, "First?")
            assert messages(page) == ["First?"]
        expect(page.get_by_role("status")).to_be_empty()
        busy()
        click(page, "Try again")
        expect(page.locator(".writing .body")).to_contain_text("on and")
        click(page, "Delete First?")
        expect(page.locator(".message")).to_have_count(0)
        page.reload()
        assert stored(page) == []


def test_what_is_typed_while_a_question_is_turned_away_takes_nothing_from_it(
    page: Any, busy: Callable[..., None]
) -> None:
    with running(make_app(SLOW, endless=True, seconds=0.02, rows=1, capacity=1)) as url:
        busy(url)
        page.goto(url)
        held: list[Any] = []
        page.route("**/v1/chat/completions", lambda route: held.append(route), times=1)
        with page.expect_request("**/v1/chat/completions"):
            send(page, "First?")
        page.get_by_label("Your message").fill("Second?")
        held[0].continue_()
        expect(page.get_by_role("status")).to_contain_text("The server is busy.")
        assert page.get_by_label("Your message").input_value() == "Second?"
        assert (messages(page), stored(page)) == (["First?"], [["First?"]])
        busy()
        with page.expect_request("**/v1/chat/completions") as asked:
            click(page, "Send")
        assert [message["content"] for message in json.loads(asked.value.post_data)["messages"]] == ["Second?"]
        expect(page.locator(".writing .body")).to_contain_text("on and")
        click(page, "Stop")
        answered(page, 3)
        assert messages(page)[:2] == ["First?", "Second?"]
        expect(page.locator(".user .figures").first).to_have_text("not answered")
        expect(page.get_by_role("button", name="Try again")).to_have_count(0)


def test_without_a_server_an_answer_that_is_asked_for_anew_and_an_edit_take_nothing_away(page: Any) -> None:
    with serving("Yes.") as url:
        page.goto(url)
        for count, text in ((2, "One?"), (4, "Two?")):
            send(page, text)
            answered(page, count)
        whole = ["One?", "Yes.", "Two?", "Yes."]
        page.context.set_offline(True)
        click(page, "Regenerate")
        expect(page.get_by_role("status")).to_contain_text("cannot be reached")
        assert (messages(page), stored(page)) == (whole, [whole])
        field = page.get_by_label("Edit the message")
        for done in ("Cancel", "Send again"):
            page.get_by_role("button", name="Edit").first.click()
            field.fill("Three?")
            click(page, "Send again")
            expect(page.get_by_role("status")).to_contain_text("cannot be reached")
            assert stored(page) == [whole]
            assert field.input_value() == "Three?"
            if done == "Cancel":
                click(page, "Cancel")
                assert messages(page) == whole
        page.context.set_offline(False)
        page.reload()
        assert field.input_value() == "Three?"
        shoot(page, "edited")
        click(page, "Send again")
        answered(page)
        assert (messages(page), stored(page)) == (["Three?", "Yes."], [["Three?", "Yes."]])
        page.reload()
        assert messages(page) == ["Three?", "Yes."]
