"""Reads from a compiled program how much it moves, stores, and runs one after the other."""

import itertools
import re
from typing import Any

import jax
from jax.extend import backend
from jax.extend.core import jaxprs_in_params
from jaxlib import _hlo, _jax  # type: ignore[attr-defined]

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"\s*(?:ROOT )?%?([\w.\-]+) = ")
_CALLED = re.compile(r"(?:to_apply|calls|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_WHILE = re.compile(r" while\(.*body=%?([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


def accessed_bytes(compiled: jax.stages.Compiled) -> float | None:
    """Bytes that the operations of a program read and write, by XLA's cost analysis.

    XLA counts the body of a loop once; here it counts as often as it runs. XLA ignores caches: data
    that one operation has just written counts again when the next one reads it.

    Returns:
      None if the device's compiler has no such analysis; that of NVIDIA GPUs has none.

    Raises:
      ValueError: A loop's number of iterations is not known in advance.
    """
    try:
        return _Program(compiled.as_text() or "").cost("bytes accessed")
    except jax.errors.JaxRuntimeError as error:
        if "UNIMPLEMENTED" not in str(error):
            raise
        return None


def temporary_bytes(compiled: jax.stages.Compiled) -> int:
    """Memory that a program needs besides its arguments and results."""
    analysis = compiled.memory_analysis()
    if analysis is None:
        raise ValueError("this backend has no memory analysis")
    return int(analysis.temp_size_in_bytes)


def sequential_steps(jaxpr: Any) -> int:
    """Steps of a traced function's loops, one after the other; nested loops multiply.

    Args:
      jaxpr: From `jax.make_jaxpr`. Loops that end by a condition are not counted.
    """
    total = 0
    for equation in jaxpr.eqns:
        inner = sum(map(sequential_steps, jaxprs_in_params(equation.params)))
        if equation.primitive.name == "scan":
            total += equation.params["length"] * max(inner, 1)
        else:
            total += inner
    return total


def matrix_products(text: str) -> set[str]:
    """Instructions of an HLO text that are a matrix product, or a fusion with one."""
    return _Program(text).instructions_around(" dot(")


class _Program:
    """The computations of an HLO text, and their cost including loops."""

    def __init__(self, text: str) -> None:
        self._lines: dict[str, list[str]] = {}
        self._entry = ""
        # Positions in the source refer to a table that parts of the program lack.
        for line in re.sub(r"stack_frame_id=\d+", "", text).splitlines():
            if match := _COMPUTATION.match(line):
                name = match.group(2)
                self._lines[name] = []
                self._entry = name if match.group(1) else self._entry
            if self._lines:
                self._lines[name].append(line)

    def cost(self, figure: str) -> float:
        """One figure of XLA's cost analysis, with bodies of loops counted as often as they run."""
        return self._with_loops(self._entry, figure)

    def instructions_around(self, operation: str) -> set[str]:
        """Instructions that are this operation, or a fusion that contains it."""
        holders = {
            name for name, lines in self._lines.items() if any(operation in line for line in lines)
        }
        found = set()
        for match in map(_INSTRUCTION.match, itertools.chain.from_iterable(self._lines.values())):
            if match is None:
                continue
            fused = " fusion(" in match.string and set(_CALLED.findall(match.string)) & holders
            if operation in match.string or fused:
                found.add(match.group(1))
        return found

    def _with_loops(self, name: str, figure: str) -> float:
        once = self._once(name, figure)
        return once + sum(
            trips * self._with_loops(body, figure) - self._once(body, figure)
            for body, trips in self._loops(name)
        )

    def _loops(self, name: str) -> list[tuple[str, int]]:
        """Bodies and iterations of the loops of a computation and of those it calls."""
        loops = []
        for line in self._lines[name]:
            if match := _WHILE.search(line):
                trips = _TRIPS.search(line)
                if trips is None:
                    raise ValueError(f"a loop without a known number of trips: {line.strip()[:80]}")
                loops.append((match.group(1), int(trips.group(1))))
                continue
            called = _CALLED.findall(line)
            for branches in _BRANCHES.findall(line):
                called += [branch.strip().lstrip("%") for branch in branches.split(",")]
            for computation in called:
                loops += self._loops(computation)
        return loops

    def _once(self, name: str, figure: str) -> float:
        """XLA's figure for the computation as a separate program."""
        needed = self._reachable(name)
        text = ["HloModule part"]
        for computation, lines in self._lines.items():
            if computation in needed:
                first = lines[0].removeprefix("ENTRY ")
                text += ["ENTRY " + first if computation == name else first, *lines[1:]]
        module = _hlo.hlo_module_from_text("\n".join(text) + "\n")
        return float(_jax.hlo_module_cost_analysis(backend.get_backend(), module)[figure])

    def _reachable(self, name: str) -> set[str]:
        found, open_names = set(), [name]
        while open_names:
            current = open_names.pop()
            if current in found:
                continue
            found.add(current)
            text = "\n".join(self._lines[current])
            open_names += [
                other for other in re.findall(r"%([\w.\-]+)", text) if other in self._lines
            ]
        return found
