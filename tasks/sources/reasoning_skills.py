"""The skills of the embedded reasoning problems: which generators of reasoning-gym, how hard, in which shares.

Short answers only; a generator without a reference answer (boxnet, graph_color, propositional_logic, rubiks_cube,
rush_hour) or slower than about 100 problems a second has no place here.

The level ``short`` is made for models that a processor trains within a minute, which meet some tens of thousands of
problems and no more. They do not learn to count, carry or search in that time, and what has a different length in
every problem (a word of three to ten letters, say) they do not even learn to copy. So sizes are fixed: words of four
and of six letters, matrices of two by two. Then a skill is learnt as far as its share of the data lets it: some are
done after a few hundred problems (is a course plan possible), most grow with every doubling (words backwards, pooling,
brothers and sisters), some only start (sums, mirrors). The level ``long`` has the library's own ranges, or wide ones.

A prompt is the problem without the library's instructions, restated from the entry by the rule beside each skill:
they are the same words every time, and would make up most of what a model reads.

Training shares are skewed to what is quickly learnt, as cheap data are; the target is skewed to what grows with its
share. Copying backwards comes suddenly, at a step that differs from seed to seed, so the target gives it less: one
lucky seed would outweigh a mixture.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Skill:
    """One domain. share, target: of the training problems and of the evaluation; each sums to one over the skills.

    category, generator: in reasoning-gym. restate: an entry's prompt. short, long: settings of the generator.
    """

    domain: str
    category: str
    generator: str
    share: float
    target: float
    restate: Callable[[Entry], str]
    short: Mapping[str, Any]
    long: Mapping[str, Any]

    def settings(self, level: str) -> dict[str, Any]:
        """The generator's settings at a level."""
        return dict(self.short if level == "short" else self.long)


def _expression(entry: Entry) -> str:
    """``8+0-7=``."""
    return entry["metadata"]["expression"].replace(" ", "") + "="


def _gcd(entry: Entry) -> str:
    """``gcd 54 30``."""
    return "gcd " + " ".join(str(number) for number in entry["metadata"]["numbers"])


def _equation(entry: Entry) -> str:
    """``8*x-9=23``, whatever the variable is called."""
    about = entry["metadata"]
    return about["equation"].replace(" ", "").replace(about["variable"], "x")


def _backward(entry: Entry) -> str:
    """``backward ulna``."""
    return f"backward {entry['metadata']['word']}"


def _rows(matrix: list[list[Any]]) -> str:
    """``75/08``: the rows, one character a cell."""
    return "/".join("".join(str(cell) for cell in row) for row in matrix)


def _spiral(entry: Entry) -> str:
    """``spiral 75/08``."""
    return f"spiral {_rows(entry['metadata']['matrix'])}"


_OPERATIONS = {"hmirror": "-", "vmirror": "|", "dmirror": "\\", "cmirror": "/"}


def _mirrors(entry: Entry) -> str:
    r"""``mirror \ 80/73``: the axes of one reflection after the other, then the matrix."""
    about = entry["metadata"]
    axes = "".join(_OPERATIONS[step["transform"]] for step in about["operations"])
    return f"mirror {axes} {_rows(about['matrix'])}"


def _pooling(entry: Entry) -> str:
    """``max 36/60`` or ``average 36/60``; the pool's size before it where it is not two."""
    about = entry["metadata"]
    size = "" if about["pool_size"] == 2 else f"{about['pool_size']} "
    return f"{size}{about['pool_type']} {_rows(about['matrix'])}"


def _siblings(entry: Entry) -> str:
    """``34 sisters 60 brothers``: how many sisters has a brother? In the order of the question, names left out."""
    return " ".join(re.findall(r"\d+ (?:sisters|brothers)", entry["question"]))


def _circuit(entry: Entry) -> str:
    """``(1'^0)&(1'x0)``: the circuit's expression with the inputs' values; ``^`` is nand, ``v`` nor, ``x`` xor."""
    about = entry["metadata"]
    text = re.sub("[A-Z]+", lambda name: str(about["assignments"][name[0]]), about["expression"])
    return text.translate(str.maketrans("↑↓⊕", "^vx"))


def _courses(entry: Entry) -> str:
    """``10 23 31``: each course with the one that it requires; is there an order?"""
    return " ".join(f"{course}{required}" for course, required in entry["metadata"]["prerequisites"])


def _islands(entry: Entry) -> str:
    """``land 1000/1000/0110``: how large is the largest island?"""
    return f"land {_rows(entry['metadata']['grid'])}"


def _sequence(entry: Entry) -> str:
    """``next 5 7 9 11``."""
    return "next " + " ".join(re.findall(r"-?\d+", entry["question"]))


_SIBLINGS = [1.0, 0.0, 0.0]  # and not friends or colleagues
_NEVER = -60.0  # the library takes the exponential of a weight
_MIRRORS = {
    **dict.fromkeys(("w_rotate", "w_map", "w_crop", "w_zero_divisible"), _NEVER),
    **dict.fromkeys(("w_remove_every_nth_row", "w_remove_every_nth_col"), _NEVER),
}

SKILLS: tuple[Skill, ...] = (
    Skill(
        domain="sums",
        category="arithmetic",
        generator="chain_sum",
        share=0.12,
        target=0.04,
        restate=_expression,
        short={"min_terms": 3, "max_terms": 3, "min_digits": 1, "max_digits": 1},
        long={"min_terms": 2, "max_terms": 4, "min_digits": 2, "max_digits": 3},
    ),
    Skill(
        domain="divisors",
        category="arithmetic",
        generator="gcd",
        share=0.10,
        target=0.12,
        restate=_gcd,
        short={"max_value": 99},
        long={"max_value": 1000, "max_numbers": 3},
    ),
    Skill(
        domain="equations",
        category="algebra",
        generator="simple_equations",
        share=0.04,
        target=0.10,
        restate=_equation,
        short={"min_terms": 2, "max_terms": 2, "max_value": 9},
        long={"max_value": 50},
    ),
    Skill(
        domain="backward4",
        category="algorithmic",
        generator="spell_backward",
        share=0.05,
        target=0.06,
        restate=_backward,
        short={"min_word_len": 4, "max_word_len": 4},
        long={"min_word_len": 3, "max_word_len": 7},
    ),
    Skill(
        domain="backward6",
        category="algorithmic",
        generator="spell_backward",
        share=0.02,
        target=0.05,
        restate=_backward,
        short={"min_word_len": 6, "max_word_len": 6},
        long={"min_word_len": 8, "max_word_len": 10},
    ),
    Skill(
        domain="spirals",
        category="algorithmic",
        generator="spiral_matrix",
        share=0.12,
        target=0.03,
        restate=_spiral,
        short={"min_n": 2, "max_n": 2},
        long={"min_n": 2, "max_n": 5},
    ),
    Skill(
        domain="mirrors",
        category="algorithmic",
        generator="manipulate_matrix",
        share=0.01,
        target=0.03,
        restate=_mirrors,
        short={"max_rows": 2, "max_cols": 2, "max_transforms": 1, **_MIRRORS},
        long={"max_rows": 4, "max_cols": 4, "max_transforms": 4, **_MIRRORS},
    ),
    Skill(
        domain="pooling",
        category="algorithmic",
        generator="pool_matrix",
        share=0.03,
        target=0.16,
        restate=_pooling,
        short={"max_rows": 2, "max_cols": 2, "min_pool_size": 2, "max_pool_size": 2},
        long={"max_rows": 6, "max_cols": 6, "min_pool_size": 2, "max_pool_size": 2},
    ),
    Skill(
        domain="siblings",
        category="logic",
        generator="aiw",
        share=0.03,
        target=0.20,
        restate=_siblings,
        short={"task_type_weights": _SIBLINGS, "max_entities": 60},
        long={"task_type_weights": _SIBLINGS, "max_entities": 500},
    ),
    Skill(
        domain="circuits",
        category="logic",
        generator="circuit_logic",
        share=0.15,
        target=0.03,
        restate=_circuit,
        short={"min_terms": 2, "max_terms": 2, "max_inputs": 2},
        long={},
    ),
    Skill(
        domain="courses",
        category="graphs",
        generator="course_schedule",
        share=0.20,
        target=0.02,
        restate=_courses,
        short={"min_num_courses": 4, "max_num_courses": 5, "max_num_prerequisites": 1, "max_cycle_length": 4},
        long={},
    ),
    Skill(
        domain="islands",
        category="graphs",
        generator="largest_island",
        share=0.08,
        target=0.12,
        restate=_islands,
        short={"min_rows": 4, "max_rows": 4, "min_cols": 4, "max_cols": 4, "max_num_islands": 4, "max_island_size": 5},
        long={"max_rows": 7, "max_cols": 7},
    ),
    Skill(
        domain="sequences",
        category="cognition",
        generator="number_sequence",
        share=0.05,
        target=0.04,
        restate=_sequence,
        short={"max_terms": 4, "min_value": -50, "max_value": 50, "max_complexity": 1},
        # The library's third level of rules takes it 20 ms a problem.
        long={"max_complexity": 2, "min_value": -1000, "max_value": 1000},
    ),
)
