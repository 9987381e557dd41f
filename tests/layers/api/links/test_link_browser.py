"""The pages in a browser, served as they are in production: what a person with a link gets to see."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest
from links.browser import DEAD_MAN_S, NARROWEST, PHONE, browser, complaints, needed, resize
from links.people import Post, signals
from persistasaurus.api.http.app import asgi_app
from persistasaurus.api.http.server import Server
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

if TYPE_CHECKING:
    from collections.abc import Iterator

    from selenium.webdriver import Chrome

ASKED = "Confirm your email address"
THANKS = "Thank you. Your address is confirmed."
REFUSED = "This link does not work"


class Person(NamedTuple):
    """Somebody with a browser, and a post office whose links lead to a server."""

    chrome: Chrome
    post: Post

    def heading(self) -> str:
        return self.chrome.find_element(By.TAG_NAME, "h1").text

    def wait_for(self, heading: str) -> None:
        between = [NoSuchElementException, StaleElementReferenceException]  # one page and the next
        wait = WebDriverWait(self.chrome, DEAD_MAN_S, ignored_exceptions=between)
        wait.until(lambda _: self.heading() == heading, f"not {heading!r}, but {self.chrome.title!r}")

    def button(self):
        return self.chrome.find_element(By.TAG_NAME, "button")


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    needed()
    with browser(tmp_path_factory.mktemp("profile")) as chrome:
        yield chrome


@pytest.fixture
def served(post: Post) -> Iterator[Post]:
    assert post.system is not None
    with Server(asgi_app(post.system, access=lambda scope: None, links=post.links)) as server:
        post.links.base_url = server.url
        yield post


@pytest.fixture
def person(chrome: Chrome, served: Post) -> Iterator[Person]:
    resize(chrome, (1280, 800))
    complaints(chrome)
    yield Person(chrome, served)
    chrome.get("about:blank")


def test_a_person_confirms_and_may_reload_and_go_back(person: Person) -> None:
    handle = person.post.start()
    chrome = person.chrome
    chrome.get(person.post.outbox[0])
    chrome.refresh()

    assert person.heading() == ASKED
    assert "ada@example.com" in chrome.find_element(By.TAG_NAME, "main").text
    assert signals(handle) == {}

    person.button().click()
    person.wait_for(THANKS)
    handle.result(DEAD_MAN_S)
    chrome.refresh()
    assert person.heading() == THANKS
    assert complaints(chrome) == []

    chrome.get(person.post.outbox[0])
    assert person.heading() == REFUSED
    assert "all is well" in chrome.find_element(By.TAG_NAME, "main").text
    assert len(signals(handle)) == 1


def test_who_goes_back_and_presses_again_is_thanked_again(person: Person) -> None:
    handle = person.post.start()
    person.chrome.get(person.post.outbox[0])
    person.button().click()
    person.wait_for(THANKS)
    person.chrome.back()

    # Chromium shows the page as it was left. A browser that asks the server anew shows that the link is used.
    assert person.heading() in (ASKED, REFUSED)
    if person.heading() == ASKED:
        person.button().click()
        person.wait_for(THANKS)
    assert len(signals(handle)) == 1


def test_the_keyboard_is_enough(person: Person) -> None:
    handle = person.post.start()
    person.chrome.get(person.post.outbox[0])
    keys = ActionChains(person.chrome)
    keys.send_keys(Keys.TAB).perform()

    assert person.chrome.switch_to.active_element == person.button()
    assert person.button().value_of_css_property("outline-style") == "solid"
    keys.send_keys(Keys.ENTER).perform()

    person.wait_for(THANKS)
    assert handle.result(DEAD_MAN_S)


def test_enter_on_a_page_where_nothing_is_chosen_confirms_nothing(person: Person) -> None:
    handle = person.post.start()
    person.chrome.get(person.post.outbox[0])
    ActionChains(person.chrome).send_keys(Keys.ENTER, Keys.SPACE).perform()
    person.chrome.refresh()

    assert person.heading() == ASKED
    assert signals(handle) == {}


def test_a_double_click_thanks_as_a_click_does(person: Person) -> None:
    handle = person.post.start()
    person.chrome.get(person.post.outbox[0])
    ActionChains(person.chrome).double_click(person.button()).perform()

    person.wait_for(THANKS)
    assert complaints(person.chrome) == []
    assert handle.result(DEAD_MAN_S)
    assert len(signals(handle)) == 1


def test_a_page_that_was_open_while_another_was_used_says_that_the_link_is_used(person: Person) -> None:
    handle = person.post.ask()
    chrome = person.chrome
    chrome.get(person.post.links.url("order-1", "reject"))
    with person.post.client() as elsewhere:
        elsewhere.post(person.post.links.url("order-1", "approve").replace(person.post.links.base_url, ""))
    person.button().click()

    person.wait_for(REFUSED)
    assert [b"true" in data for data in signals(handle).values()] == [True]


def test_what_is_put_into_a_page_is_not_run(person: Person) -> None:
    person.post.start()
    chrome = person.chrome
    chrome.get(person.post.outbox[0])
    chrome.execute_script("""
        const script = document.createElement("script");
        script.textContent = "window.ran = 'script'";
        document.body.append(script);
        document.body.insertAdjacentHTML("beforeend", `<a id="a" onclick="window.ran = 'handler'">x</a>`);
        document.getElementById("a").click();
        document.body.insertAdjacentHTML("beforeend", `<p id="p" style="color: red">x</p>`);
        document.body.insertAdjacentHTML("beforeend", `<img src="/health"><iframe src="/health"></iframe>`);
    """)
    said = " ".join(complaints(chrome))

    assert chrome.execute_script("return window.ran") is None
    assert chrome.find_element(By.ID, "p").value_of_css_property("color") != "rgba(255, 0, 0, 1)"
    assert said.count("Content Security Policy") >= 4


def test_a_page_sends_its_form_nowhere_else(person: Person) -> None:
    handle = person.post.start()
    chrome = person.chrome
    chrome.get(person.post.outbox[0])
    chrome.execute_script(
        "document.forms[0].action = 'http://localhost:9/stolen'; document.forms[0].submit()"
    )

    assert "form-action" in " ".join(complaints(chrome))
    assert chrome.current_url == person.post.outbox[0]
    assert signals(handle) == {}


def test_a_page_cannot_be_put_into_a_frame_of_somebody_else(person: Person) -> None:
    person.post.start()
    chrome = person.chrome
    chrome.get(f"data:text/html,<iframe src='{person.post.outbox[0]}'></iframe>")
    chrome.switch_to.frame(0)

    assert chrome.execute_script("return document.URL").startswith("chrome-error:")
    assert chrome.find_elements(By.TAG_NAME, "button") == []
    chrome.switch_to.default_content()


@pytest.mark.parametrize("size", [PHONE, NARROWEST], ids=["phone", "desktop at 400 %"])
def test_nothing_is_cut_off_however_little_room_there_is(person: Person, size: tuple[int, int]) -> None:
    person.post.start("x" * 200)
    chrome = person.chrome
    resize(chrome, size)
    chrome.get(person.post.links.url("x" * 200, "confirm", says="W" * 200))

    widths = chrome.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    assert widths[0] <= widths[1]
    box = person.button().rect
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= size[0]
    assert box["height"] >= 44


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_is_as_light_or_dark_as_the_device(person: Person, dark: bool) -> None:  # noqa: FBT001
    person.post.start()
    resize(person.chrome, PHONE, dark=dark)
    person.chrome.get(person.post.outbox[0])
    ground = person.chrome.find_element(By.TAG_NAME, "main").value_of_css_property("background-color")

    assert ground == ("rgba(26, 29, 36, 1)" if dark else "rgba(255, 255, 255, 1)")


def test_no_script_is_needed(served: Post, tmp_path_factory: pytest.TempPathFactory) -> None:
    handle = served.start()
    with browser(tmp_path_factory.mktemp("profile"), javascript=False) as chrome:
        chrome.get("data:text/html,<h1>off</h1><script>document.body.innerHTML = '<h1>on</h1>'</script>")
        person = Person(chrome, served)
        assert person.heading() == "off"
        chrome.get(served.outbox[0])
        person.button().click()
        person.wait_for(THANKS)

    assert handle.result(DEAD_MAN_S)
