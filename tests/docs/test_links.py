"""The checker of links within the built site."""

import pytest
from check_links import broken_links, main


@pytest.fixture
def site(tmp_path):
    (tmp_path / "sub folder").mkdir()
    (tmp_path / "style.css").write_text("")
    (tmp_path / "sub folder" / "page.html").write_text(
        '<h1 id="été">Page</h1>\n<a href="../index.html#top">up</a> <a name="old"></a>'
    )
    return tmp_path


def test_links_that_work(site):
    (site / "index.html").write_text(
        '<link href="style.css?v=1"><h1 id="top">T</h1><a href="#top">t</a> <a href="#">here</a>'
        '<a href="sub%20folder/page.html#%C3%A9t%C3%A9">p</a><a href="sub%20folder/page.html#old">'
        '<a href="https://example.org/none#none">o</a><a href="mailto:a@b">m</a>'
        '<img src="data:image/png;base64,AAAA"><a>no address</a>'
    )
    assert broken_links(site) == [] and main([str(site)]) == 0
    assert main([str(site / "none")]) == 2


@pytest.mark.parametrize(
    ("address", "wrong"),
    [
        ("none.html", "no such file"),
        ("sub folder/none.png", "no such file"),
        ("#none", "no such anchor"),
        ("sub%20folder/page.html#top", "no such anchor"),
        ("sub folder", "no such file"),
    ],
)
def test_links_that_are_broken(site, capsys, address, wrong):
    (site / "index.html").write_text(f'<h1 id="top">T</h1>\n<a href="{address}">x</a>')
    assert broken_links(site) == [f"index.html:2: {address}: {wrong}"]
    assert main([str(site)]) == 1
    assert address in capsys.readouterr().out
