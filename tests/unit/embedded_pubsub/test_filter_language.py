"""The filter language, on attributes alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedded_pubsub.errors import InvalidArgumentError
from embedded_pubsub.filters import compile_filter

ATTRIBUTES = {"lang": "en", "domain": "com.example", "iana.org/tag": "de", "-x": "1"}

MATCHING = [
    "",
    "attributes:lang",
    'attributes:"iana.org/tag"',
    'attributes.lang = "en"',
    'attributes.lang="en"',
    'attributes.lang != "de"',
    'attributes."iana.org/tag" = "de"',
    'hasPrefix(attributes.domain, "com.")',
    'hasPrefix ( attributes . domain , "" )',
    "NOT attributes:absent",
    "-attributes:absent",
    "NOT NOT attributes:lang",
    'attributes:lang AND attributes.lang = "en" AND NOT attributes:absent',
    'attributes:absent OR attributes.lang = "en"',
    'attributes:lang AND (attributes:absent OR hasPrefix(attributes.domain, "com"))',
    "(attributes:absent AND attributes:other) OR attributes:lang",
    "((attributes:lang))",
    "NOT (attributes:lang AND attributes:absent)",
    '  attributes.lang\n=\t"en"  ',
]

NOT_MATCHING = [
    "attributes:absent",
    "attributes:Lang",
    'attributes.lang = "EN"',
    'attributes.lang != "en"',
    'attributes.absent != "en"',
    'attributes.absent = ""',
    'hasPrefix(attributes.domain, "example")',
    'hasPrefix(attributes.absent, "")',
    "NOT attributes:lang",
    "NOT attributes:lang AND attributes:lang",
    "attributes:lang AND attributes:absent",
    "attributes:absent OR attributes:other",
]

INVALID = [
    " ",
    "lang",
    "attributes",
    "attributes.lang",
    "attributes:",
    "attributes.lang = en",
    "attributes.lang = 'en'",
    'attributes.lang == "en"',
    'attributes.lang > "en"',
    'attributes.lang = "en',
    'attributes.lang = "e\\q"',
    'attributes.lang = "\\UFFFFFFFF"',
    "attributes:lang and attributes:domain",
    "attributes:lang attributes:domain",
    "attributes:lang AND",
    "AND attributes:lang",
    "attributes:a AND attributes:b OR attributes:c",
    "(attributes:lang",
    "attributes:lang)",
    "not attributes:lang",
    "attributes:NOT",
    'hasprefix(attributes.lang, "e")',
    'hasPrefix(attributes:lang, "e")',
    'hasPrefix(attributes.lang "e")',
    "attributes:iana.org/tag",
    'attributes.lang = "en" # comment',
]


@pytest.mark.parametrize("text", MATCHING)
def test_matches(text):
    assert compile_filter(text)(ATTRIBUTES)


@pytest.mark.parametrize("text", NOT_MATCHING)
def test_does_not_match(text):
    assert not compile_filter(text)(ATTRIBUTES)


@pytest.mark.parametrize("text", INVALID)
def test_refuses_what_is_not_of_the_language(text):
    with pytest.raises(InvalidArgumentError, match="filter: "):
        compile_filter(text)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (r"a\"b", 'a"b'),
        (r"a\\b", "a\\b"),
        (r"\n\t\r", "\n\t\r"),
        (r"\x41", "A"),
        (r"\u00e9", "é"),
        (r"\U0001F600", "😀"),
        (r"\101", "A"),
        ("é", "é"),
    ],
)
def test_escapes_in_strings(written, meant):
    assert compile_filter(f'attributes.k = "{written}"')({"k": meant})


def test_length_is_counted_in_bytes():
    fits = 'attributes.k = "' + "x" * 239 + '"'
    assert len(fits) == 256
    assert compile_filter(fits)({"k": "x" * 239})
    with pytest.raises(InvalidArgumentError, match="257 bytes"):
        compile_filter(fits.replace("xx", "é" + "x", 1))


def test_error_names_the_place():
    with pytest.raises(InvalidArgumentError, match=r"found 'en' at offset 18"):
        compile_filter("attributes.lang = en")


@given(st.text(alphabet='atribues.:k="()-ANDORT \\x', max_size=60))
def test_any_text_is_a_filter_or_an_error(text):
    try:
        predicate = compile_filter(text)
    except InvalidArgumentError:
        return
    assert predicate({"k": "v"}) in {True, False}


@given(st.dictionaries(st.sampled_from("abc"), st.sampled_from("xyz")))
def test_de_morgan(attributes):
    both = compile_filter('NOT (attributes:a AND attributes.b = "x")')
    either = compile_filter('NOT attributes:a OR NOT attributes.b = "x"')
    assert both(attributes) == either(attributes)
