"""The page, in headless Chromium, against a real server: what a person does with it, and what no model can do to it."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from herdsman.serving.page import _page
from herdsman.serving.server import Server
from herdsman.tokens.tokenizer import Tokenizer
from tests.generation.models import BYTES, parrot
from tests.serving.conftest import SAYS
from tests.serving.served import chain, serving, write_model
from tests.serving.test_responses import SERVER_TOOLS, WRITES, Counter

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MARKDOWN = (
    "# Sheep\n\n**bold** and `__init__`\n\n",
    "| a | b |\n|---|--:|\n| 1 | 2 |\n\n",
    "```python\nprint('<b>')\n```\n",
    "<img src=x onerror=alert(1)> [bad](javascript:alert(1)) [good](https://example.org/?a=1&b=2)",
)
MOST_BYTES = 61_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def served(model_folders: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`writer` answers in Markdown, `coder` and `searcher` call tools, `parrot` and `random` are the common ones."""
    root = tmp_path_factory.mktemp("page-models")
    folders = list(model_folders)
    texts = {
        "writer": [part.encode() for part in MARKDOWN],
        "coder": WRITES["code_interpreter"],
        "searcher": WRITES["web_search"],
    }
    for name, parts in texts.items():
        ranks = BYTES | {part: 256 + rank for rank, part in enumerate(parts)}
        tokenizer = Tokenizer(ranks)
        tokens = list(range(256, 256 + len(parts)))
        written = [*tokens, tokenizer.eot] if name == "writer" else [tokenizer.python_tag, *tokens, tokenizer.eom]
        model = chain(written, tokenizer.vocab_size, context_length=8192)
        folders.append(write_model(root / name, model, tokenizer, ranks))
    endless, tokenizer = parrot(SAYS, context_length=32768, end=None)
    folders.append(write_model(root / "endless", endless, tokenizer, BYTES))
    offered = dict.fromkeys(("coder", "searcher"), SERVER_TOOLS)
    with serving(folders, offered=offered, make=lambda kind, _: Counter(kind)) as server:
        yield server


@pytest.fixture
def page(browser: Browser, served: Server) -> Iterator[Page]:
    """A fresh browser with the page open. Nothing may go wrong in it, and nobody but the server may be asked."""
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    context.set_default_timeout(15_000)
    opened = context.new_page()
    trouble: list[str] = []
    asked: list[str] = []
    opened.on("pageerror", lambda error: trouble.append(str(error)))
    opened.on("console", lambda said: trouble.append(said.text) if said.type in ("error", "warning") else None)
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(served.address)
    expect(opened.locator("#tries button").first).to_be_visible()
    yield opened
    context.close()
    assert trouble == []
    assert {address for address in asked if not address.startswith((served.address, "data:", "blob:"))} == set()


def choose(page: Page, *models: str) -> None:
    """A new chat with these models."""
    page.evaluate("models => newChat(models)", list(models))


def ask(page: Page, text: str, wait: bool = True) -> None:
    page.locator("#prompt").fill(text)
    page.keyboard.press("Enter")
    if wait:
        expect(page.locator("#send")).to_have_attribute("aria-label", "Send")


def test_a_question_and_its_answer_stay(page: Page) -> None:
    choose(page, "parrot")
    page.evaluate("chat.settings.temperature = 0")
    ask(page, "hello <b>you</b>")
    expect(page.locator(".asked .bubble")).to_have_text("hello <b>you</b>")
    expect(page.locator(".answer .text")).to_have_text(SAYS.decode())
    expect(page.locator(".facts")).to_contain_text(f"{len(SAYS)} tokens")
    expect(page.locator(".facts")).to_contain_text("first after")
    ask(page, "and again")
    expect(page.locator(".answer .text")).to_have_count(2)
    page.reload()
    expect(page.locator(".answer .text")).to_have_count(2)
    expect(page.locator("#chats li.now")).to_have_text("hello <b>you</b>")
    assert page.title() == "Herdsman"


def test_markdown_is_shown_and_nothing_in_it_runs(page: Page) -> None:
    choose(page, "writer")
    page.evaluate("chat.settings.temperature = 0")
    ask(page, "write")
    text = page.locator(".answer .text")
    expect(text.locator("h1")).to_have_text("Sheep")
    expect(text.locator("p code")).to_have_text("__init__")
    expect(text.locator("td").nth(1)).to_have_css("text-align", "right")
    expect(text.locator(".block pre")).to_have_text("print('<b>')")
    expect(text.locator(".block .s")).to_have_text("'<b>'")
    expect(text.locator("img")).to_have_count(0)
    links = text.locator("a")
    expect(links).to_have_count(1)
    expect(links).to_have_attribute("href", "https://example.org/?a=1&b=2")
    expect(links).to_have_attribute("rel", "noopener noreferrer")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    text.locator("[data-copy]").click()
    assert page.evaluate("navigator.clipboard.readText()") == "print('<b>')"


SOURCES: list[tuple[str, list[str] | None]] = [
    ("use __init__ and snake_case_name", ["<p>use __init__ and snake_case_name</p>"]),
    ("a **b *c* d** e", ["<p>a <strong>b <em>c</em> d</strong> e</p>"]),
    ("2 * 3 * 4 and 5*6", ["<p>2 * 3 * 4 and 5*6</p>"]),
    ("- a\n- b\n  - c\n\ntail", ["<ul><li>a</li><li>b<ul><li>c</li></ul></li></ul>", "<p>tail</p>"]),
    ("3. x\n4. y", ['<ol start="3"><li>x</li><li>y</li></ol>']),
    ("1. a\n\n   b\n2. c", ['<ol start="1"><li>a<p>b</p></li><li>c</li></ol>']),
    ("> q\n> r", ["<blockquote><p>q\nr</p></blockquote>"]),
    ("---", ["<hr>"]),
    ("``a`b`` `<i>`", ["<p><code>a`b</code> <code>&#60;i&#62;</code></p>"]),
    ("\\*no\\*", ["<p>*no*</p>"]),
    ("<script>x</script>", ["<p>&#60;script&#62;x&#60;/script&#62;</p>"]),
    ("[x](javascript:alert(1))", ["<p>[x](javascript:alert(1))</p>"]),
    ("![x](https://e.org/p.png)", None),
    ('[x](https://e.org/"onmouseover="a)', None),
    ("\ue000" + "0\ue001", ["<p>0</p>"]),
    ("a|b\n-|-\n1|2|3", None),
    ("# " + "*" * 3000, None),
    ("[" * 3000, None),
    ("`" * 2999, None),
    ("> " * 300, None),
]
TAGS = (
    "p h1 h2 h3 h4 ul ol li strong em del br hr code pre span div header button table thead tbody tr th td a blockquote"
)


def test_markdown_of_all_kinds(page: Page) -> None:
    known = "|".join(TAGS.split())
    for source, html in SOURCES:
        found = page.evaluate("source => markdown(source)", source)
        assert html is None or found == html, source
        assert not re.search(rf"<(?!/?({known})\b)", "".join(found)), source
        assert not re.search(r"<[^>]*\son\w+=", "".join(found)), source


def test_stop_ends_the_answer_at_the_server_too(page: Page, served: Server) -> None:
    choose(page, "endless")
    for stop in ("Escape", "click"):
        ask(page, "go on", wait=False)
        expect(page.locator(".answer .text").last).to_contain_text("Bad. Nice!Bad.")
        if stop == "Escape":
            page.keyboard.press("Escape")
        else:
            page.locator("#send").click()
        expect(page.locator(".answer").last.get_by_text("Stopped.")).to_be_visible()
    deadline = time.monotonic() + 10
    while 'herdsman_engine_running{model="endless"} 0.0' not in httpx.get(f"{served.address}/metrics").text:
        assert time.monotonic() < deadline


def test_again_another_version_and_back(page: Page) -> None:
    choose(page, "parrot")
    page.evaluate("chat.settings.temperature = 0")
    ask(page, "hello")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".answer .tools")).to_contain_text("2/2")
    page.get_by_role("button", name="The version before").click()
    expect(page.locator(".answer .tools")).to_contain_text("1/2")
    expect(page.locator(".answer .text")).to_have_text(SAYS.decode())


def test_both_sides_can_be_edited_and_taken_back(page: Page) -> None:
    choose(page, "parrot")
    page.evaluate("chat.settings.temperature = 0")
    ask(page, "one")
    ask(page, "two")
    page.locator(".turn").first.locator(".answer").get_by_role("button", name="Edit").click()
    page.locator("textarea.edit").fill("What I **say**")
    page.locator("textarea.edit").press("Control+Enter")
    expect(page.locator(".answer .text strong")).to_have_text("say")
    given = page.evaluate("inputOf(chat, chat.turns[1], 0)")
    assert given == [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "What I **say**"},
        {"role": "user", "content": "two"},
    ]
    page.locator("#prompt").press("ArrowUp")
    page.locator("textarea.edit").fill("three")
    page.get_by_role("button", name="Send", exact=True).first.click()
    expect(page.locator(".asked .bubble").last).to_have_text("three")
    expect(page.locator(".turn")).to_have_count(2)
    page.locator(".turn").first.locator(".asked").get_by_role("button", name="Delete").click()
    expect(page.locator(".turn")).to_have_count(1)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".turn")).to_have_count(2)


def test_calls_are_shown_with_what_came_of_them(page: Page) -> None:
    choose(page, "coder")
    page.get_by_role("button", name="Python", exact=True).click()
    ask(page, "compute")
    call = page.locator("details.call").first
    expect(call.locator("summary")).to_contain_text("Ran Python")
    expect(call.locator("pre")).to_have_text("print(1)")
    expect(call.locator(".output").first).to_have_text("call 1")
    expect(call.locator("img")).to_have_attribute("src", re.compile("^data:image/png;base64,iVBOR"))
    expect(call.get_by_role("link", name="a.csv")).to_have_attribute("download", "a.csv")
    expect(page.locator(".answer .note")).to_contain_text("was stopped")
    assert "data:image" not in str(page.evaluate("inputOf(chat, { user: 'x' }, 0)"))
    ask(page, "more")
    expect(page.locator(".turn").last.locator(".output").first).to_have_text("call 11")  # the same interpreter
    choose(page, "searcher")
    page.get_by_role("button", name="Search", exact=True).click()
    ask(page, "find")
    call = page.locator("details.call").first
    expect(call.locator("summary")).to_contain_text("Searched for “sheep”")
    call.locator("summary").click()
    expect(call.locator("a")).to_have_attribute("href", "https://example.org/a")
    expect(call.locator(".sources")).to_contain_text("about it")


def test_several_models_answer_side_by_side(page: Page) -> None:
    choose(page, "parrot", "writer")
    page.evaluate("chat.settings.temperature = 0")
    ask(page, "hello")
    boxes = [box.bounding_box() for box in page.locator(".answer").all()]
    assert boxes[0]
    assert boxes[1]
    assert abs(boxes[0]["y"] - boxes[1]["y"]) < 2
    assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]
    expect(page.locator(".answer").nth(0)).to_contain_text(SAYS.decode())
    expect(page.locator(".answer").nth(1).locator("h1")).to_have_text("Sheep")
    page.locator("#add").click()
    expect(page.locator(".answer")).to_have_count(3)
    page.get_by_role("button", name="Ask this model too").click()
    expect(page.locator(".answer").nth(2).locator(".facts")).not_to_be_empty()
    page.get_by_role("button", name="Take parrot away").click()
    expect(page.locator(".answer").first.locator("h1")).to_have_text("Sheep")


def test_everything_can_be_reached_from_the_keyboard(page: Page) -> None:
    choose(page, "parrot")
    ask(page, "first")
    page.keyboard.press("Control+Shift+O")
    expect(page.locator(".turn")).to_have_count(0)
    ask(page, "second")
    page.keyboard.press("Alt+ArrowDown")
    expect(page.locator(".bubble")).to_have_text("first")
    page.keyboard.press("Alt+ArrowUp")
    expect(page.locator(".bubble")).to_have_text("second")
    page.keyboard.press("Control+k")
    expect(page.locator("#find")).to_be_focused()
    page.keyboard.type("fir")
    expect(page.locator("#chats li button:first-child")).to_have_text(["first"])
    page.keyboard.press("Control+,")
    expect(page.locator("#settings")).to_be_visible()
    page.keyboard.type("Be brief.")
    page.keyboard.press("Escape")
    assert page.evaluate("chat.settings.system") == "Be brief."
    page.locator("#log").focus()
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    expect(page.locator("#prompt")).to_be_focused()
    page.keyboard.press("Control+b")
    expect(page.locator("#side")).not_to_be_visible()
    nameless = page.evaluate(
        "[...document.querySelectorAll('button, input, textarea, select')].filter(one => one.offsetParent"
        " && !one.textContent.trim() && !one.ariaLabel && !one.closest('label')).length"
    )
    assert nameless == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1400])
def test_it_fits_every_width_and_both_schemes(page: Page, scheme: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 700})
    page.emulate_media(color_scheme=scheme)
    choose(page, "writer", "coder")
    page.evaluate("chat.settings.temperature = 0")
    ask(page, "a very long word: " + "x" * 300)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.querySelector('#log').scrollWidth") <= width
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", paper)[:3])) > 384) == (scheme == "light")
    if width < 500:
        expect(page.locator("#side")).not_to_be_visible()
        page.locator("#fold").click()
        expect(page.locator("#side")).to_be_visible()
    page.locator("#theme").click()
    page.locator("#theme").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"


def test_a_chat_can_be_taken_along(page: Page, tmp_path: Path) -> None:
    choose(page, "parrot")
    page.evaluate("chat.settings.temperature = 0")
    ask(page, "keep me")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export this chat").click()
    file = tmp_path / "chat.json"
    download.value.save_as(file)
    page.locator("#chats li.now").hover()
    page.locator("#chats li.now").get_by_role("button", name="Delete this chat").click()
    expect(page.locator(".turn")).to_have_count(0)
    page.locator("#file").set_input_files(file)
    expect(page.locator(".bubble")).to_have_text("keep me")
    (tmp_path / "no.json").write_text('{"id": 5}')
    page.locator("#file").set_input_files(tmp_path / "no.json")
    expect(page.locator("#toast")).to_contain_text("no chat")


def test_a_key_is_asked_for_and_kept(browser: Browser, model_folders: list[Path]) -> None:
    with serving(model_folders, keys=["open-sesame"]) as server:
        opened = browser.new_page()
        opened.goto(server.address)
        expect(opened.locator("#key")).to_be_visible()
        opened.locator("#key input").fill("open-sesame")
        opened.keyboard.press("Enter")
        expect(opened.locator("#lanes select option")).to_have_count(2)
        opened.reload()
        expect(opened.locator("#lanes select option")).to_have_count(2)
        expect(opened.locator("#key")).not_to_be_visible()
        opened.close()


def test_the_page_is_small_whole_and_locked(server: Server) -> None:
    answer = httpx.get(server.address)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert not re.search(r"unsafe|http|\*", policy)
    assert len(answer.content) < MOST_BYTES
    addresses = set(re.findall(r"""(?:src|href|url\(|import|from)\s*=?\s*["']?(https?:[^"'\s)]+)""", answer.text))
    assert addresses == set()
    assert httpx.get(server.address, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
    assert _page()[0] == answer.content
