"""Drawn inputs, each judged: it ends in the right value, or in one sentence with the way out.

`make fuzz` draws at least 1,000 inputs of each kind from one seed; the tests draw 40, always the
same. A kind has a strategy of sound inputs, which must end in the right value, and one of unsound
inputs, which may end in a sentence instead. A judge returns True where a computation beside dfwe's
gave the same value: a tenth of the inputs must end so.
"""

import copy
import os
import re
import signal
import time
import traceback
import warnings
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from dfwe.errors import UserError

ASKED = os.environ.get("DFWE_FUZZ")  # inputs of each kind; unset in the tests
COUNT = int(ASKED or 40)
SEED = int(os.environ.get("DFWE_FUZZ_SEED", "0"))
PATIENCE = 6  # processor seconds for one input
SHARE = 0.1  # of the inputs, at least, end in a value that was computed beside dfwe
COMMAND = re.compile(r"compute (it|them) with: \S+ stage=")  # to be pasted: no full stop after it
OURS = re.compile(r"object at 0x|Traceback|pydantic|ValidationError|<class|<function")


class Hang(BaseException):
    """An input took too long; no `except Exception` takes it for something else."""


@dataclass
class Tally:
    """What became of the inputs of one kind.

    Args:
        ends: how many "inputs" there were, and how many of them ended "right", "repeated" by a
            computation beside dfwe (of those that are right), in a "sentence", in a "wrong"
            value or refusal, in a "traceback" or in a "hang".
        faults: where and how it went wrong -> the shortest such input, and how often.
    """

    kind: str
    ends: Counter[str] = field(default_factory=Counter)
    faults: dict[str, tuple[str, int]] = field(default_factory=dict)
    seconds: float = 0.0

    def judge(self, sound, value, judge):
        """Run `judge` on an input: it raises UserError, or AssertionError for a wrong value.

        It returns True where a computation beside dfwe's repeated the value.
        """
        self.ends["inputs"] += 1
        try:
            with limited(PATIENCE), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                repeated = judge(value) is True
            self.ends["right"] += 1
            self.ends["repeated"] += repeated
        except UserError as error:
            if sound:
                self.note("wrong", f"a sound input is refused: {_blurred(error)}", value)
            elif wrong := no_sentence(str(error)):
                self.note("wrong", f"no sentence, {wrong}: {_blurred(error)}", value)
            else:
                self.ends["sentence"] += 1
        except Hang as error:
            self.note("hang", _place(error), value)
        except AssertionError as error:
            self.note("wrong", _place(error), value)
        except Exception as error:
            self.note("traceback", _place(error), value)

    def note(self, end, words, value):
        text, times = repr(value), 0
        if words in self.faults:
            before, times = self.faults[words]
            text = min(before, text, key=len)
        self.faults[words] = text, times + 1
        self.ends[end] += 1

    def check(self):
        """Every input ended well, and enough of them in a value that was computed twice."""
        told = (
            f"{words} ({n} times)\n  {text[:1500]}" for words, (text, n) in self.faults.items()
        )
        assert not self.faults, "\n".join([f"{self.kind}: {dict(self.ends)}", *told])
        assert self.ends["repeated"] >= SHARE * self.ends["inputs"]


def fuzz(tally, judge, sound, unsound):
    """Draws `COUNT` inputs and judges each."""

    @settings(
        max_examples=COUNT,
        derandomize=ASKED is None,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        st.booleans().flatmap(
            lambda is_sound: st.tuples(st.just(is_sound), sound if is_sound else unsound)
        )
    )
    def run(drawn):
        tally.judge(*drawn, judge)

    began = time.process_time()
    (run if ASKED is None else seed(SEED)(run))()
    tally.seconds = time.process_time() - began
    tally.check()


def no_sentence(text):
    """Why a message is not one sentence for a person; None where it is."""
    if not text.isprintable():
        return "characters that are not printable"
    if not text.endswith(".") and not COMMAND.search(text):
        return "no full stop"
    return "words of ours" if OURS.search(text) else None


@contextmanager
def limited(seconds):
    """Raises Hang after so many processor seconds."""

    def stop(number, frame):
        raise Hang(f"longer than {seconds} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _blurred(error):
    """A message without what differs from input to input."""
    return re.sub(r"'[^']*'|/\S+|\d+", "_", str(error))[:150]


def _place(error):
    """The error's class and message, and the last frames of dfwe and of the test."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/dfwe/" in frame.filename or "/tests/" in frame.filename]
    where = " < ".join(f"{f.filename.rpartition('/')[2]}:{f.lineno}" for f in ours[:-4:-1])
    return f"{type(error).__name__} at {where}: {_blurred(error)}"


# Texts that some reader or writer may take for something else.
TRICKY = tuple(
    r"""
    None NA NaN null nan true no ~ 007 1e5 1.50 -1 1_0 a,b q"q it's {text} { } {{x}} {0} %s $x$
    ${task} \ \n #x =1+1 +1 @x [b] [/] [link=x]y[/link] :smile: <b>x</b> &amp; | `x` *x* _x_ -_x
    x:_y ../x a/b é 𝄞 ß İ
    """.split()
)
BLANKS = (
    *(
        "",
        " ",
        "two\nlines",
        "dos\r\nline",
        "old\rmac",
        "tab\tbed",
        " lead",
        "trail ",
        "a and b",
        "x and",
        "and",
    ),
    *("- x", "x: y", "\u2028", "\ufeff", "\x00", "\x1b[31m", "\x85", "e\u0301"),
)


def texts(least=0, longest=10):
    """Short texts of any character, and tricky ones."""
    tricky = [text for text in (*TRICKY, *BLANKS) if least <= len(text)]
    return st.one_of(st.sampled_from(tricky), st.text(min_size=least, max_size=longest))


def names():
    """What a person may call a thing: on one line, with something to be seen at both ends."""
    return texts(1).filter(lambda text: text.isprintable() and text == text.strip() != "")


def junk():
    """A value of a type that is wrong nearly everywhere."""
    numbers = (0, -1, 3, 1.5, -0.0, 10**30)
    trees = ([], {}, [[]], ["x", "x"], [None], {"x": 1}, {"": None}, [1, "a"])
    return st.sampled_from([None, True, False, *numbers, *trees, "", "x", "1", "a" * 300, "\x00"])


@st.composite
def mutated(draw, tree, values=None):
    """The tree, plain data, with one value inside replaced, taken out, doubled or renamed."""
    tree, values = copy.deepcopy(tree), junk() if values is None else values
    places = list(_places(tree))
    if not places:
        return draw(values)
    node, key = draw(st.sampled_from(places))
    how = draw(st.sampled_from(["replaced", "replaced", "out", "again"]))
    if how == "replaced":
        node[key] = draw(values)
    elif how == "out":
        del node[key]
    elif isinstance(node, list):
        node.append(copy.deepcopy(node[key]))
    else:
        node[f"{key}_"] = node.pop(key)
    return tree


def _places(node):
    inner = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in list(inner):
        yield node, key
        if isinstance(value, dict | list):
            yield from _places(value)


@st.composite
def damaged(draw, content):
    """A file's bytes with some flipped, cut, zeroed, put in or written in another encoding."""
    how = draw(st.sampled_from(["flipped", "cut", "zeros", "more", "other", "empty", "twice"]))
    at = draw(st.integers(0, max(0, len(content) - 1)))
    if how == "flipped" and content:
        bit = 1 << draw(st.integers(0, 7))
        return content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :]
    if how == "cut":
        return content[:at]
    if how == "zeros":
        size = draw(st.integers(1, 40))
        return content[:at] + bytes(len(content[at : at + size])) + content[at + size :]
    if how == "more":
        return content[:at] + draw(st.binary(min_size=1, max_size=8)) + content[at:]
    if how == "other":
        encoding = draw(st.sampled_from(["utf-16", "utf-8-sig", "utf-32"]))
        return content.decode("latin-1").encode(encoding)
    return content * 2 if how == "twice" else b""
