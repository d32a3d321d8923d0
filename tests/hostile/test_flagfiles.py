"""Flagfiles: thousands with good and bad values, and files that are no flagfiles."""

import dataclasses
import os
from pathlib import Path
from random import Random

import pytest
from absl import flags
from absl.testing import flagsaver

from data_pipelines.commands.command import one_line
from data_pipelines.commands.flagfiles import expand_flagfiles
from data_pipelines.commands.settings_flags import define_flags, read_settings
from data_pipelines.config import PrepareConfig
from experiments.flags import run_flags as flags_lib
from hiertcn_jax.settings import fields_of
from tests.hostile.damage import damaged
from tests.hostile.flag_cases import PREPARE, TRAIN
from tests.hostile.outcomes import Outcomes
from tests.volume import few

FILE = r"flag --flagfile=.*: "
KINDS = {
    "unreadable": FILE + r"(cannot be read: .+|there is no user .+)",
    "itself": FILE + r"includes itself; remove that line",
    "no flag": FILE + r"line \d+: expected --flag=value, got .+",
    "unknown": r"Unknown command line flag '.+'.*",
    "no value": r"Missing value for flag -.+|flag --\w+=None: Flag --\w+ must have a value.*",
    "value": r"flag --\w+=.*: .+",
    "field": r"\w+=.*: .+",
}
BROKEN_LINES = {
    "unreadable": ("--flagfile=missing.flags", "--flagfile=/", "-flagfile=~nobody/x"),
    "itself": ("--flagfile={path}", "-flagfile={path}"),
    "no flag": ("3", "lanes=3", "\u2014lanes=3", "--flagfile", "--a=\0", "'--lanes=3'"),
    "unknown": ("--what=3", "--Seed=3", "--seed-=3", "-w=1"),
    # The last line, or what follows were its value.
    "no value": ("--seed", "-seed"),
}


def flag_line(rng, name, text):
    if text in ("true", "false") and rng.random() < 0.5:
        return f"--{'' if text == 'true' else 'no'}{name}"
    return f"{rng.choice(('--', '--', '-'))}{name}={text}{rng.choice(('', '', '  '))}"


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A flagfile; its name is always the same, because damage is drawn from its content."""
    monkeypatch.chdir(tmp_path)
    return Path("some.flags")


def write_flagfile(rng, path, cases, breaks):
    """Writes a flagfile of some flags.

    Returns:
      The values that it gives, by flag; and what must be refused, if anything: the name of a flag,
      or a kind of KINDS.
    """
    values, lines, refused = {}, [], None
    for name in rng.sample(sorted(cases), rng.randint(1, 5)):
        for _ in range(rng.choice((1, 1, 2))):
            text, values[name] = rng.choice(cases[name].good)
            lines.append(flag_line(rng, name, text))
        lines += [rng.choice(("", "   ", "# --x=3", "// y", "#"))] * (rng.random() < 0.2)
    if breaks and rng.random() < 0.4:
        refused = rng.choice(sorted(BROKEN_LINES))
        broken = rng.choice(BROKEN_LINES[refused]).format(path=path)
        last = len(lines)
        lines.insert(last if refused == "no value" else rng.randint(0, last), broken)
    elif breaks:
        refused = rng.choice([name for name in sorted(cases) if cases[name].bad])
        # After the others: if a flag occurs twice, the later one counts.
        lines.append(f"--{refused}={rng.choice(cases[refused].bad)}")
    if rng.random() < 0.3:
        start, end = sorted((rng.randint(0, len(lines)), rng.randint(0, len(lines))))
        inner = path.with_name("inner.flags")
        inner.write_text("\n".join(lines[start:end]), encoding="utf-8")
        lines[start:end] = [f"--flagfile={inner}"]
    newline, mark = rng.choice(("\n", "\r\n")), rng.choice(("", "", "", "\ufeff"))
    path.write_bytes((mark + newline.join(lines) + rng.choice(("", newline))).encode())
    return values, refused


def prepare_config(*arguments):
    values = flags.FlagValues()
    define_flags(fields_of(PrepareConfig), values)
    rest = values(expand_flagfiles(["prepare", *arguments]))
    assert len(rest) == 1, rest
    return read_settings(PrepareConfig, values)


def check_flagfiles(path, cases, count, read, expect, outcomes):
    """Reads `count` flagfiles, and compares with what was written into them."""
    for seed in range(count):
        rng = Random(seed)
        values, refused = write_flagfile(rng, path, cases, breaks=rng.random() < 0.6)
        try:
            got = read(f"--flagfile={path}")
        except (flags.Error, ValueError) as error:
            line = one_line(str(error))
            kind = outcomes.refused(ValueError(line))
            assert refused in (kind, *cases), (seed, refused, line)
            if refused in cases:
                assert f"{refused}=" in line or f"--{refused}" in line, (seed, refused, line)
        else:
            assert refused is None, (seed, refused, path.read_bytes())
            assert got == expect(values), seed
            outcomes.right()


def test_flagfiles_of_prepare(path):
    outcomes, inputs = Outcomes(KINDS), few(150, of=1200)
    needed = ("--input=a.csv", "--output_dir=D")
    plain = prepare_config(*needed)
    check_flagfiles(
        path,
        PREPARE,
        inputs,
        lambda flagfile: prepare_config(*needed, flagfile),
        lambda values: dataclasses.replace(plain, **values),
        outcomes,
    )
    outcomes.require(inputs, least=5, never=("field",))


def test_flagfiles_of_train(path):
    outcomes, inputs = Outcomes(KINDS), few(100, of=800)
    with flagsaver.flagsaver():
        flags_lib.define_train_flags()

        def read(*arguments):
            with flagsaver.flagsaver():
                flags.FLAGS(expand_flagfiles(["train", "--data_dir=D", "--workdir=W", *arguments]))
                run = flags_lib.read_run_config()
                fields = {}
                for config in run.configs:
                    for field in fields_of(type(config)):
                        fields[field.flag] = getattr(config, field.name)
                return {**run.others, **fields}

        plain = read()
        check_flagfiles(path, TRAIN, inputs, read, lambda values: plain | values, outcomes)
    outcomes.require(inputs, least=5, never=("field",))


def test_damaged_flagfiles(path):
    """Bytes changed anywhere give a config or one line, never anything else."""
    outcomes, inputs = Outcomes(KINDS), few(100, of=400)
    for seed in range(inputs):
        rng = Random(seed)
        write_flagfile(rng, path, PREPARE, breaks=False)
        path.write_bytes(damaged(rng, path.read_bytes()))
        try:
            config = prepare_config("--input=a.csv", "--output_dir=D", f"--flagfile={path}")
        except (flags.Error, ValueError) as error:
            outcomes.refused(ValueError(one_line(str(error))))
        else:
            # An accepted config can be built again from its own values.
            assert PrepareConfig(**dataclasses.asdict(config)) == config
            outcomes.right()
    outcomes.require(inputs, never=("itself", "field"))


def refusal(path):
    with pytest.raises(flags.IllegalFlagValueError) as caught:
        expand_flagfiles(["prepare", f"--flagfile={path}"])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_invalid_flagfiles_are_named(tmp_path):
    path = tmp_path / "a.flags"
    expected = f"flag --flagfile={path}: cannot be read: No such file or directory; check the path"
    assert refusal(path).startswith(expected)
    assert "cannot be read: Is a directory; check" in refusal(tmp_path)
    path.write_bytes(b"--a=1\n\xff\n")
    assert "a.flags: cannot be read: 'utf-8' codec can't decode byte 0xff" in refusal(path)
    assert refusal("/dev/zero").endswith("has more than 1,048,576 bytes; is it a flagfile?")
    path.write_text("--a=1\n\n# x\nb\n")
    assert refusal(path).endswith("a.flags: line 4: expected --flag=value, got 'b'")
    path.unlink()
    path.symlink_to(path)
    assert "cannot be read: " in refusal(path)


def test_files_that_include_each_other(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text(f"--a=1\n--flagfile={two}\n")
    two.write_text("--b=2\n")
    expected = ["prepare", "--a=1", "--b=2", "--c", "--", "--flagfile=x"]
    assert expand_flagfiles(["prepare", "--flagfile", str(one), *expected[3:]]) == expected
    two.write_text(f"--flagfile={tmp_path}/../{tmp_path.name}/one\n")
    assert refusal(one).endswith("one: includes itself; remove that line")
    # Including a file twice is no circle; but twice, and each twice again, is limited.
    for depth in range(40):
        inner = f"--flagfile={tmp_path / str(depth + 1)}\n"
        (tmp_path / str(depth)).write_text(inner * 2)
    (tmp_path / "40").write_text("--a=1\n")
    assert refusal(tmp_path / "0").endswith("more than 100 files are included; combine them")


def test_a_pipe_is_read_as_a_file(tmp_path):
    """As the shell passes it for --flagfile=<(command)."""
    reader, writer = os.pipe()
    os.write(writer, b"--a=1\n")
    os.close(writer)
    assert expand_flagfiles(["prepare", f"--flagfile=/dev/fd/{reader}"]) == ["prepare", "--a=1"]
    os.close(reader)


def test_an_empty_flagfile_name_is_refused():
    with pytest.raises(flags.IllegalFlagValueError, match="expected the name of a file"):
        expand_flagfiles(["prepare", "--flagfile"])
