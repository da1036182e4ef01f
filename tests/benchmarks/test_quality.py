"""The ladder of recipes: trained and scored as a user would, resumed, written down once, and made into tables."""

import json
import subprocess
from pathlib import Path

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import quality
from scratchnmt.cli import _parser, main
from scratchnmt.data.toy import toy_corpus

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def ladder(tmp_path, monkeypatch, capsys):
    """ladder([...]) -> exit status, output, the rows by recipe and seed; on a few sentences, with a tiny model."""
    monkeypatch.setattr(quality, "MODEL", "--vocab word --min-count 1 --embed-size 8 --hidden-size 8 --tie-embeddings")
    monkeypatch.setattr(quality, "TRAINING", "--batch-size 16 --dropout 0.1")
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    (tmp_path / "data").mkdir()
    for name, sides in zip(("train", "val", "test_a"), toy_corpus(train=60, valid=10, test=10), strict=True):
        for language, lines in zip(("en", "de"), sides, strict=True):
            (tmp_path / "data" / f"{name}.{language}").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def run(*arguments):
        places = ["--data", tmp_path / "data", "--out", tmp_path / "runs", "--rows", tmp_path / "rows.jsonl"]
        status = benchmarks.main([*map(str, ["quality", *places, "--threads", 1, *arguments])])
        found = quality.read(tmp_path / "rows.jsonl")
        return status, capsys.readouterr(), {(one.recipe, one.seed): row for one, row in found.items()}

    return run


@pytest.fixture
def commands(monkeypatch):
    """What would be run; the base scores 40, others 41.  `fail`: what is raised by a command with such a word."""
    done = []

    def command(*arguments):
        done.append(arguments)
        for error, word in command.fail.items():
            if any(word in argument for argument in arguments):
                raise error
        folder = Path(arguments[arguments.index("--out" if arguments[0] == "train" else "--model") + 1])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metrics.jsonl").write_text(json.dumps({"seconds": 60.0}) + "\n")
        bleu = 40 if "-base-" in str(folder) else 41
        return json.dumps({"bleu": bleu, "perplexity": 5.0, "bleu_signature": "tok:13a", "paper": {"this model": [
            {"measure": name, "score": bleu - 5, "signature": ""} for name in quality.PAPERS]}})

    command.fail, command.done = {}, done
    monkeypatch.setattr(quality, "scratchnmt_command", command)
    return command


def test_a_run_that_was_stopped_goes_on_is_scored_and_is_not_run_again(ladder, tmp_path):
    for package in ("sacrebleu", "safetensors", "matplotlib", "sacremoses"):
        pytest.importorskip(package)
    asked = ["--recipes", "word-dropout", "--seeds", 3, "--epochs", 2, "--test", "test_a"]
    one, runs = quality.Run.of("data", "en-de", "word-dropout", 2, 3), tmp_path / "runs"
    begun = one.command(tmp_path / "data", runs)
    begun[begun.index("--max-epochs") + 1] = "1"
    assert "--resume" not in begun and main(begun) == 0

    status, _, found = ladder(*asked)
    assert status == 0 and list(found) == [("word-dropout", 3)]
    history = [json.loads(line) for line in (one.folder(runs) / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in history] == [1, 2]
    row = found["word-dropout", 3]
    assert row["perplexity"] == pytest.approx(history[-1]["valid_ppl"], rel=1e-3)
    assert row["seconds"] == history[-1]["seconds"] and row["workers"] == 1 and row["epochs"] == 2
    assert row["signature"].startswith("nrefs:1|case:mixed|eff:no|tok:13a") and row["commit"] and row["machine"]
    assert "--word-dropout 0.1" in row["options"] and json.loads(
        (one.folder(runs) / "config.json").read_text())["model"]["word_dropout"] == 0.1
    assert {"BLEU", "BLEU, lower-cased Moses tokens"} <= set(row["tests"]["test_a"])

    state = (one.folder(runs) / "training-state.safetensors").stat()
    status, (out, _), again = ladder(*asked)
    assert status == 0 and again == found and "| word-dropout | `--word-dropout 0.1` | 3 |" in out
    assert (one.folder(runs) / "training-state.safetensors").stat() == state


def test_seed_by_seed_and_what_is_missing_only(ladder, commands):
    _, _, found = ladder("--recipes", "base,layer-norm", "--seeds", "0,1")
    assert list(found) == [("base", 0), ("layer-norm", 0), ("base", 1), ("layer-norm", 1)]
    assert [done[0] for done in commands.done] == ["train", "evaluate"] * 4
    commands.done.clear()
    _, _, found = ladder("--recipes", "layer-norm", "--seeds", "1,2", "--test", "test_a")
    scored = [done[done.index("--src") + 1].rpartition("/")[2] for done in commands.done if done[0] == "evaluate"]
    assert scored == ["val.en", "test_a.en"] * 2 and len(found) == 5
    assert found["layer-norm", 2]["tests"]["test_a"]["BLEU"]["score"] == 36 and found["base", 0]["tests"] == {}
    assert all("--paper" in done for done in commands.done if "test_a.en" in done[-1])


def test_the_models_of_several_seeds_together(ladder, commands):
    status, (out, _), found = ladder("--recipes", "base", "--seeds", "0,1", "--ensemble")
    assert status == 0 and list(found) == [("base", 0), ("base", 1), ("base", "0+1")]
    done = commands.done[-1]
    models = done[done.index("--model") + 1:done.index("--src")]
    assert done[0] == "evaluate"
    assert [Path(model).name for model in models] == ["data-en-de-base-8-0", "data-en-de-base-8-1"]
    assert found["base", "0+1"]["seconds"] == 120.0
    assert "| base |  | 0, 1 |" in out and "| base, together |  | 0+1 | 5.00 | 40.00 |" in out


def test_a_run_that_fails_leaves_the_others_and_ctrl_c_leaves_what_there_is(ladder, commands):
    commands.fail = {subprocess.CalledProcessError(2, "train"): "layer-norm"}
    status, _, found = ladder("--recipes", "layer-norm,base", "--seeds", "0")
    assert status == 1 and list(found) == [("base", 0)]
    commands.fail = {KeyboardInterrupt(): "layer-norm"}
    status, (out, err), found = ladder("--recipes", "base,layer-norm,word-dropout", "--seeds", "1")
    assert status == 130 and list(found) == [("base", 0), ("base", 1)]
    assert "the same command goes on" in err and "| base |" in out


def test_a_command_that_fails_or_is_interrupted(monkeypatch):
    with pytest.raises(subprocess.CalledProcessError):
        quality.scratchnmt_command("score", "--model", "nowhere")
    monkeypatch.setattr(subprocess, "run", lambda *a, **b: subprocess.CompletedProcess(a, 130, "", ""))
    with pytest.raises(KeyboardInterrupt):
        quality.scratchnmt_command("train")


def test_tables_have_the_mean_the_spread_and_what_was_not_run():
    def row(recipe, seed, bleu, perplexity=5.0, epochs=8, **tests):
        one = quality.Run.of("data", "en-de", recipe, epochs, seed)
        return one, {**one._asdict(), "bleu": bleu, "perplexity": perplexity, "signature": "tok:13a",
                     "tests": {name: dict.fromkeys(quality.PAPERS, {"score": score, "signature": f"bs:9|seed:1|{name}"})
                               for name, score in tests.items()}}

    old, other = row("layer-norm", 0, 99.0)
    made = list(quality.tables(dict([
        row("base", 0, 37.0, 6.0), row("base", 1, 38.0, 6.5), row("word-dropout", 1, 36.123, flickr=35.0),
        row("base", 0, 39.0, epochs=22), (old._replace(options="--cell gru"), other)])))
    assert made[0] == "| data, en-de, 8 epochs | differs by | seeds | perplexity | BLEU | flickr |"
    assert "| base |  | 0, 1 | 6.25 (6.00 to 6.50) | 37.50 (37.00 to 38.00) | not run |" in made
    assert "| word-dropout | `--word-dropout 0.1` | 1 | 5.00 | 36.12 | 35.00; 35.00 |" in made
    missing = [line for line in made if line.startswith("Not run: ")]
    assert "layer-norm, " in missing[0] and "base," not in missing[0]
    assert made[made.index("\nBLEU: `flickr`") + 1] == "\nBLEU: `tok:13a`"
    assert "99" not in "".join(made)  # the recipe was another one
    assert missing[1].startswith("Not run: word-dropout, ")
    assert "Not run: base, word-dropout" in "".join(quality._table("", [other]))
    assert "| data, en-de, 22 epochs | differs by | seeds | perplexity | BLEU |" in made


def test_the_tables_of_the_page_are_those_of_the_rows(tmp_path):
    page, rows = ROOT / "docs" / "quality.md", quality.read(quality.ROWS)
    assert rows
    copy = tmp_path / "page.md"
    copy.write_text(page.read_text(encoding="utf-8"), encoding="utf-8")
    assert benchmarks.main(["quality", "--page", str(copy), "--threads", "1"]) == 0
    assert copy.read_text(encoding="utf-8") == page.read_text(encoding="utf-8")


def test_every_recipe_is_of_options_that_there_are(tmp_path, ladder):
    assert next(iter(quality.RECIPES)) == "base"
    for recipe in quality.RECIPES:
        command = quality.Run.of("data", "en-de", recipe, 8, 0).command(tmp_path / "data", tmp_path)
        args = vars(_parser().parse_args(command))
        assert args["seed"] == 0 and args["train_src"] == str(tmp_path / "data/train.en")


def test_what_starts_from_another_recipe_has_its_model(monkeypatch, tmp_path, ladder):
    monkeypatch.setitem(quality.RECIPES, "tuned", "--init-from base --dropout 0.5 --max-epochs 1")
    one = quality.Run.of("data", "en-de", "tuned", 8, 1)
    command = one.command(tmp_path / "data", tmp_path / "runs")
    assert command[command.index("--init-from") + 1] == str(tmp_path / "runs/data-en-de-base-8-1")
    assert command[command.index("--max-epochs") + 1] == "1" and command[command.index("--dropout") + 1] == "0.5"
    assert "--vocab" not in command and command.count("--dropout") == 1
    assert one.folder(tmp_path) == tmp_path / "data-en-de-tuned-8-1"


def test_a_student_learns_from_a_text_of_its_teachers_that_is_made_once(monkeypatch, ladder, tmp_path):
    monkeypatch.setitem(quality.RECIPES, "student", "--distill base+wide --distill-weight 0.5")
    monkeypatch.setitem(quality.RECIPES, "wide", "--hidden-size 12 --embed-size 12")
    status, _, rows = ladder("--recipes", "student", "--seeds", "3", "--epochs", "1")
    text = tmp_path / "runs/data-en-de-base+wide-1-0.de"
    assert status == 0 and list(rows) == [("student", 3)]
    assert len(text.read_text(encoding="utf-8").splitlines()) == 60
    config = json.loads((tmp_path / "runs/data-en-de-student-1-3/config.json").read_text(encoding="utf-8"))
    assert str(text) in json.dumps(config)
    monkeypatch.setitem(quality.RECIPES, "other student", "--distill base+wide --distill-weight 0.3")
    made = text.stat()
    assert ladder("--recipes", "other student,student", "--seeds", "4", "--epochs", "1")[0] == 0
    assert text.stat().st_ino == made.st_ino


def test_who_is_needed_is_trained_to_its_end_before(monkeypatch, ladder, commands, tmp_path):
    """Also one that was stopped after its first validation, which has written a model."""
    monkeypatch.setitem(quality.RECIPES, "tuned", "--init-from base")
    monkeypatch.setitem(quality.RECIPES, "student", "--distill tuned --distill-weight 0.5")
    (tmp_path / "runs/data-en-de-base-8-0").mkdir(parents=True)
    for name in "config.json", "model.safetensors":
        (tmp_path / "runs/data-en-de-base-8-0" / name).touch()
    assert ladder("--recipes", "student", "--seeds", "0")[0] == 0
    done = [(command[0], Path(command[command.index("--out" if command[0] == "train" else "--model") + 1]).name)
            for command in commands.done]
    assert done == [("train", "data-en-de-base-8-0"), ("train", "data-en-de-tuned-8-0"),
                    ("translate", "data-en-de-tuned-8-0"), ("train", "data-en-de-student-8-0"),
                    ("evaluate", "data-en-de-student-8-0")]
    assert "--resume" in commands.done[0]


@pytest.mark.parametrize("arguments, message", [
    (["--recipes", "base,drop"], "no recipe is called 'drop': expected some of base, word-dropout"),
    (["--seeds", "0,x"], "--seeds has 'x', expected whole numbers"),
    (["--seeds", "0", "--ensemble"], "--ensemble is of several models: expected several --seeds"),
    (["--pair", "german"], "--pair is 'german', expected two languages"),
    (["--pair", "en-fr"], "data has no train.fr, plain or packed (.gz)"),
    (["--test", "test_b"], "data has no test_b.en"),
])
def test_what_is_refused(arguments, message, ladder, commands):
    if "--test" in arguments:
        pytest.importorskip("sacremoses")
    status, (_, err), _ = ladder(*arguments)
    assert status == 2 and message in err and not commands.done


def test_a_page_without_a_place_for_tables_stays_as_it_is(ladder, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Quality\n", encoding="utf-8")
    status, (_, err), _ = ladder("--recipes", "", "--page", page)
    assert status == 2 and "page.md has no place for tables: expected the lines <!-- python -m bench" in err
    assert page.read_text(encoding="utf-8") == "# Quality\n"
